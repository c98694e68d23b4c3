"""task=report sweep=PARENT: one page that says which choice of a sweep won, by how much and at what cost."""

from __future__ import annotations

import logging

from dit_exp.report.contents import contents
from dit_exp.sweep.find import find
from dit_exp.sweep.parent import afterwards
from dit_exp.task.parts import Setting

log = logging.getLogger(__name__)


def report(setting: Setting, sweep: str) -> None:
    """Writes report/ into the sweep's folder and logs it to the sweep's own run.

    sweep  its directory, or the id of its MLflow run; where the run's directory is not on this machine, it is
           rebuilt inside this task's run directory

    Raises UserError for what is no sweep, for one without a finished cell, and for a tracker.uri on the
    command line that does not know the sweep's run.
    """
    found = find(sweep, setting.config["tracker"].get("uri"), setting.run_dir / "sweep")
    page = contents(found)
    with afterwards(setting.tracker, found, setting.names("tracker.uri")) as tracker:
        paths = page.write(found.folder / "report")
        for path in paths:
            tracker.artifact(path)
    log.info("%s", page.verdict)
    log.info("Report: %s", paths[0])

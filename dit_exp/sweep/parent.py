"""The tracker's run of a whole sweep, whose children are the runs of its cells."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dit_exp.sweep.folder import SWEEP_FILE, Sweep, lock
from dit_exp.tracker.none import NoTracker

if TYPE_CHECKING:
    from dit_exp.types.training import Tracker

log = logging.getLogger(__name__)


@contextmanager
def parent_run(tracker: Tracker, sweep: Sweep) -> Iterator[Tracker]:
    """Opens the sweep's own run, the same one each time, and ends it with the right status."""
    parameters = {"command": " ".join(sweep.command), "cells": len(sweep.cells)}
    parameters |= {key: ",".join(values) for key, values in sweep.axes.items()}
    tags = {"sweep": sweep.name, "run_dir": sweep.home or str(sweep.folder), "git_commit": sweep.git_commit}
    tracker.start(sweep.folder, parameters, tags, f"sweep {sweep.name}")
    tracker.artifact(sweep.folder / SWEEP_FILE)
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.finish("KILLED")
        raise
    except BaseException:
        tracker.finish("FAILED")
        raise
    failed = any(cell.status.state == "failed" for cell in sweep.cells)
    tracker.finish("FAILED" if failed else "FINISHED")


@contextmanager
def afterwards(tracker: Tracker, sweep: Sweep, named: bool = False) -> Iterator[Tracker]:
    """The sweep's own run, for what is made of its results. While it runs, its process alone has it.

    named  the user asked for the tracker's own place; else the run is looked for where the sweep has it.
           Raises UserError before anything is made, where the run is not there.
    """
    tracker = tracker.for_run(sweep.folder, named)
    with lock(sweep.folder) as got:
        if got:
            with parent_run(tracker, sweep):
                yield tracker
        else:
            log.info("The sweep is still running, so nothing is logged to its MLflow run.")
            yield NoTracker()

"""A sweep by what a user has of it: its directory, or the id of its MLflow run.

Where the directory of a run is not on this machine, it is rebuilt from what the tracking server holds: the
parent's sweep.json, and for each cell its files, its newest samples, and the loss as it was logged.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit_exp.errors import UserError
from dit_exp.sweep import folder as sweep_folder
from dit_exp.sweep.folder import SWEEP_FILE, Cell, State, Status, Sweep
from dit_exp.tracker.address import bare, check_readable, reason, shown
from dit_exp.tracker.spool import Spool, known_run
from dit_exp.tracker.store import opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
FILES = ("config.yaml", "metrics.json", "curve.jsonl")
STATES: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed", "RUNNING": "running"}
"""What MLflow calls a cell's state; every other name is a cell that will be run again."""


def find(parent: str, uri: str | None, rebuilt: Path) -> Sweep:
    """The sweep in the directory `parent`, or of the run `parent` at the tracking address `uri`.

    rebuilt  the directory that is filled where the run's own is not on this machine

    Raises UserError for what is neither, and for a server that does not answer.
    """
    path = Path(parent).expanduser()
    if path.is_dir():
        return sweep_folder.read(path.resolve())
    if not re.fullmatch("[0-9a-f]{32}", parent):
        raise UserError(
            f"sweep={parent} is no directory here, and no MLflow run id, which has 32 hexadecimal digits."
        )
    if uri is None:
        raise UserError(f"sweep={parent} is no directory, and tracker=none knows no runs. Pass sweep=DIR.")
    check_readable(uri)
    from mlflow.exceptions import MlflowException

    try:
        with opened(uri) as client:
            run = client.get_run(parent)
        local = _local(run)
        return sweep_folder.read(local or rebuild(client, run, rebuilt, uri))
    except (MlflowException, OSError) as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(
                f"{shown(uri)} has no run {parent}. Look it up in the UI, or pass sweep=DIR."
            ) from error
        raise UserError(
            f"tracker.uri={shown(uri)} cannot be read ({reason(error)}). Start the server, or pass sweep=DIR."
        ) from error


def rebuild(client: MlflowClient, run: Run, folder: Path, uri: str) -> Path:
    """Writes the directory of a sweep from its run at `uri` and the runs of its cells, and returns it.

    It belongs to the same run: what is logged from it goes there.
    """
    run_id = run.info.run_id
    if above := run.data.tags.get(PARENT_TAG):
        raise UserError(f"sweep={run_id} is the run of a single cell. Pass its sweep's run, sweep={above}.")
    folder.mkdir(parents=True, exist_ok=True)
    if SWEEP_FILE not in _names(client, run_id):
        raise UserError(f"sweep={run_id} is a run, but not one of a sweep: it holds no {SWEEP_FILE}.")
    client.download_artifacts(run_id, SWEEP_FILE, str(folder))
    spool = Spool(folder / "tracker")
    spool.store = bare(uri)
    spool.mark(run_id, 0, [])
    spool.close()
    sweep = sweep_folder.read(folder)
    sweep.home = run.data.tags.get("run_dir")
    sweep.write()
    runs = _children(client, run)
    for cell in sweep.cells:
        if cell.number in runs:
            _rebuild_cell(client, runs[cell.number], cell)
    return folder


def _local(run: Run) -> Path | None:
    """The run's own directory, if it is on this machine and not another sweep's by the same name."""
    folder = Path(run.data.tags.get("run_dir", ""))
    own = known_run(folder) == run.info.run_id
    return folder if own and (folder / SWEEP_FILE).exists() else None


def _children(client: MlflowClient, run: Run) -> dict[int, Run]:
    """The newest run of each cell."""
    found: dict[int, Run] = {}
    token = None
    while True:
        page = client.search_runs(
            [run.info.experiment_id],
            f"tags.`{PARENT_TAG}` = '{run.info.run_id}'",
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found |= {int(child.data.tags["cell"]): child for child in page if "cell" in child.data.tags}
        token = page.token
        if not token:
            return found


def _rebuild_cell(client: MlflowClient, run: Run, cell: Cell) -> None:
    run_id, tags = run.info.run_id, run.data.tags
    state = STATES.get(run.info.status, "requeued")
    log = f"{tags['run_dir']}/run.log" if "run_dir" in tags else None
    error = "Its log says why." if state == "failed" else None
    cell.write(Status(state, error=error, log=log))
    names = _names(client, run_id)
    for name in set(FILES) & set(names):
        client.download_artifacts(run_id, name, str(cell.folder))
    code = {key: tags[key] for key in ("git_commit", "git_dirty") if key in tags}
    (cell.folder / "revision.json").write_text(json.dumps(code))
    losses = client.get_metric_history(run_id, "loss")
    rows = [{"step": m.step, "loss": m.value} for m in sorted(losses, key=lambda m: m.step)]
    (cell.folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pictures = [name for name in _names(client, run_id, "images") if re.match(r".*samples.*\.png$", name)]
    if pictures:
        with tempfile.TemporaryDirectory() as place:
            path = client.download_artifacts(run_id, max(pictures, key=_step), place)
            shutil.copyfile(path, cell.folder / "samples.png")


def _names(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found: list[Any] = client.list_artifacts(run_id, folder)
    return [entry.path for entry in found]


def _step(name: str) -> int:
    """The step in the name that MLflow gives to a logged image: images/samples+step+200+timestamp+..."""
    found = re.search(r"step[%+](\d+)", name)
    return int(found[1]) if found else -1

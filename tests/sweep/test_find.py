"""A sweep by its folder or by its run, also where the folder is on another machine."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from PIL import Image
from sweeping import finish, write_sweep

from dit_exp.errors import UserError
from dit_exp.sweep.find import find
from dit_exp.sweep.folder import Sweep
from dit_exp.sweep.parent import parent_run
from dit_exp.tracker.mlflow import MlflowTracker

AXES = {"cond": ["adaln", "token"], "seed": ["0", "1"]}
NO_RUN = "0" * 32


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def tracked(uri: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, str]:
    """A sweep whose first three cells have run (finished, failed, running), and the id of its run."""
    sweep = write_sweep(tmp_path_factory.mktemp("sweeps") / "one", AXES)
    with parent_run(MlflowTracker(uri, "tests", 60), sweep):
        pass
    run_id = json.loads((sweep.folder / "tracker/sent.json").read_text())["run_id"]
    for cell, ending in zip(sweep.cells[:3], ("FINISHED", "FAILED", "RUNNING"), strict=True):
        finish(cell, {"fid": 40.0 + cell.number})
        tracker = MlflowTracker(uri, "tests", 60)
        tags = {"mlflow.parentRunId": run_id, "cell": str(cell.number), "run_dir": f"/far/{cell.number}"}
        tracker.start(cell.folder, {}, tags | {"git_commit": "c0ffee", "git_dirty": "True"}, "cell")
        for step in (100, 200):
            tracker.log({"loss": 10 / step}, step)
            Image.new("RGB", (4, 4), (step, cell.number, 0)).save(cell.folder / "samples.png")
            tracker.image("samples", cell.folder / "samples.png", step)
        for name in ("config.yaml", "metrics.json", "curve.jsonl"):
            tracker.artifact(cell.folder / name)
        tracker.finish(ending)
    return sweep, run_id


def test_a_folder_is_read_where_it_lies(tmp_path: Path):
    written = write_sweep(tmp_path, AXES)
    assert find(str(tmp_path), None, tmp_path / "unused") == written
    assert not (tmp_path / "unused").exists()


def test_the_run_of_a_folder_on_this_machine_is_that_folder(tracked, uri: str, tmp_path: Path):
    sweep, run_id = tracked
    assert find(run_id, uri, tmp_path / "unused").folder == sweep.folder
    assert not (tmp_path / "unused").exists()


def test_a_folder_of_another_machine_is_rebuilt_from_its_runs(tracked, uri: str, tmp_path: Path, monkeypatch):
    sweep, run_id = tracked
    away = sweep.folder.rename(sweep.folder.with_name("away"))
    monkeypatch.setattr("dit_exp.sweep.find._local", lambda run: None)
    try:
        found = find(run_id, uri, tmp_path / "rebuilt")
    finally:
        away.rename(sweep.folder)
    assert (found.folder, found.name, found.command) == (tmp_path / "rebuilt", sweep.name, sweep.command)
    assert found.home == str(sweep.folder)
    assert [cell.overrides for cell in found.cells] == [cell.overrides for cell in sweep.cells]
    assert [c.status.state for c in found.cells] == ["finished", "failed", "running", "waiting"]
    assert found.cells[1].status.log == "/far/1/run.log"
    for cell, original in zip(found.cells[:3], sweep.cells, strict=False):
        assert cell.metrics == original.metrics
        assert (cell.folder / "curve.jsonl").read_text() == (original.folder / "curve.jsonl").read_text()
        with Image.open(cell.folder / "samples.png") as picture:
            assert picture.getpixel((0, 0)) == (200, cell.number, 0)  # of the newest step
        rows = [json.loads(line) for line in (cell.folder / "history.jsonl").read_text().splitlines()]
        assert rows == [{"step": 100, "loss": 0.1}, {"step": 200, "loss": 0.05}]
    revision = json.loads((found.cells[0].folder / "revision.json").read_text())
    assert revision == {"git_commit": "c0ffee", "git_dirty": "True"}


def test_what_is_logged_from_a_rebuilt_folder_goes_to_the_same_run(
    tracked, uri: str, tmp_path: Path, monkeypatch
):
    from mlflow import MlflowClient

    sweep, run_id = tracked
    monkeypatch.setattr("dit_exp.sweep.find._local", lambda run: None)
    found = find(run_id, uri, tmp_path / "rebuilt")
    tracker = MlflowTracker(uri, "tests", 60)
    (tmp_path / "note.md").write_text("a note")
    with parent_run(tracker, found):
        tracker.artifact(tmp_path / "note.md")
    client = MlflowClient(uri)
    assert "note.md" in [entry.path for entry in client.list_artifacts(run_id)]
    assert client.get_run(run_id).data.tags["run_dir"] == str(sweep.folder)  # not the copy's


def test_a_folder_that_belongs_to_another_run_is_not_taken_for_it(tracked, uri: str, tmp_path: Path):
    sweep, run_id = tracked
    state = sweep.folder / "tracker" / "sent.json"
    kept = state.read_text()
    state.write_text(json.dumps({"run_id": NO_RUN, "sent": 0}))
    try:
        assert find(run_id, uri, tmp_path / "rebuilt").folder == tmp_path / "rebuilt"
    finally:
        state.write_text(kept)


@pytest.mark.parametrize("tail", ["", "/0"])
def test_a_folder_without_a_sweep_is_refused(tmp_path: Path, tail: str):
    folder = Path(f"{tmp_path}{tail}")
    folder.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=r"holds no sweep: it has no sweep\.json"):
        find(str(folder), None, tmp_path)


def test_a_name_that_is_neither_folder_nor_run_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"sweep=runs/nowhere is no directory here, and no MLflow run id"):
        find("runs/nowhere", "sqlite:////nowhere.db", tmp_path)


def test_without_a_tracker_no_run_is_known(tmp_path: Path):
    with pytest.raises(UserError, match=r"tracker=none knows no runs. Pass sweep=DIR"):
        find(NO_RUN, None, tmp_path)


def test_an_unknown_run_is_refused(tracked, uri: str, tmp_path: Path):
    with pytest.raises(UserError, match=rf"has no run {NO_RUN}"):
        find(NO_RUN, uri, tmp_path)


def test_the_run_of_a_cell_names_its_sweep(tracked, uri: str, tmp_path: Path):
    sweep, run_id = tracked
    child = json.loads((sweep.cells[0].folder / "tracker/sent.json").read_text())["run_id"]
    with pytest.raises(
        UserError, match=rf"is the run of a single cell. Pass its sweep's run, sweep={run_id}"
    ):
        find(child, uri, tmp_path)


def test_a_run_that_is_no_sweep_is_refused(uri: str, tmp_path: Path):
    tracker = MlflowTracker(uri, "tests", 60)
    tracker.start(tmp_path, {}, {}, "alone")
    tracker.finish()
    run_id = json.loads((tmp_path / "tracker/sent.json").read_text())["run_id"]
    with pytest.raises(UserError, match=r"not one of a sweep: it holds no sweep\.json"):
        find(run_id, uri, tmp_path / "rebuilt")


def test_a_sqlite_file_that_is_not_there_is_not_made(tmp_path: Path):
    with pytest.raises(UserError, match="there is no such file"):
        find(NO_RUN, f"sqlite:///{tmp_path}/none.db", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_away_is_one_sentence(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        UserError, match=r"cannot be read \(.*\)\. Start the server, or pass sweep=DIR"
    ) as error:
        find(NO_RUN, uri, tmp_path)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1

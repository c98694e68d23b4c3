"""What is made of a sweep's results goes to the sweep's own run, wherever that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweeping import write_sweep

from dit_exp.errors import UserError
from dit_exp.sweep.folder import Sweep
from dit_exp.sweep.parent import afterwards, parent_run
from dit_exp.tracker.mlflow import MlflowTracker


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two stores, the second of which has a run of its own."""
    uris = [f"sqlite:///{tmp_path_factory.mktemp(name)}/mlflow.db" for name in ("own", "other")]
    tracker = MlflowTracker(uris[1], "tests", 60)
    tracker.start(tmp_path_factory.mktemp("run"), {}, {}, "stranger")
    tracker.finish()
    return uris[0], uris[1]


@pytest.fixture
def sweep(tmp_path: Path, stores: tuple[str, str]) -> Sweep:
    """Two cells that have run, tracked in the first store."""
    sweep = write_sweep(tmp_path / "sweep", {"cond": ["adaln", "token"]}, lambda _: {"fid": 1.0})
    with parent_run(MlflowTracker(stores[0], "tests", 60), sweep):
        pass
    return sweep


def run_id(sweep: Sweep) -> str:
    return json.loads((sweep.folder / "tracker/sent.json").read_text())["run_id"]


def add(uri: str, sweep: Sweep, named: bool = False) -> None:
    with afterwards(MlflowTracker(uri, "tests", 60), sweep, named) as tracker:
        (sweep.folder / "page.md").write_text("a page")
        tracker.artifact(sweep.folder / "page.md")


def files(uri: str, run: str) -> list[str]:
    from mlflow import MlflowClient

    return sorted(entry.path for entry in MlflowClient(uri).list_artifacts(run))


def runs(uri: str) -> list[str]:
    from mlflow import MlflowClient

    return [run.info.run_id for run in MlflowClient(uri).search_runs(["1"])]


def test_it_goes_where_the_sweep_is_whatever_the_address_by_default(sweep: Sweep, stores, caplog):
    caplog.set_level("INFO")
    own, other = stores
    first, strangers = run_id(sweep), runs(other)
    add(other, sweep)
    assert (run_id(sweep), files(own, first)) == (first, ["page.md", "sweep.json"])
    assert runs(other) == strangers
    assert f"{sweep.folder} is tracked in {own}, which gets what is made of it." in caplog.text
    with parent_run(MlflowTracker(own, "tests", 60), sweep):
        pass
    assert run_id(sweep) == first


def test_another_store_that_was_asked_for_is_refused_and_nothing_is_made(sweep: Sweep, stores):
    own, other = stores
    first, strangers = run_id(sweep), runs(other)
    with pytest.raises(UserError) as error:
        add(other, sweep, named=True)
    assert str(error.value) == (
        f"tracker.uri={other} does not know {sweep.folder}, which is run {first} and tracked in {own}. "
        "Pass that store's address, or tracker=none to log nothing."
    )
    assert not (sweep.folder / "page.md").exists()
    assert (run_id(sweep), runs(other)) == (first, strangers)


def test_another_address_of_the_same_store_is_taken(sweep: Sweep, stores, tmp_path: Path):
    own, _ = stores
    (tmp_path / "link").symlink_to(Path(own.removeprefix("sqlite:///")).parent)
    first = run_id(sweep)
    add(f"sqlite:///{tmp_path}/link/mlflow.db", sweep, named=True)
    assert (run_id(sweep), files(own, first)) == (first, ["page.md", "sweep.json"])


def test_a_store_that_is_gone_is_not_made_anew(tmp_path: Path, stores):
    sweep = write_sweep(tmp_path / "sweep", {"cond": ["adaln", "token"]})
    state = sweep.folder / "tracker/sent.json"
    state.parent.mkdir()
    gone = f"sqlite:///{tmp_path}/gone.db"
    state.write_text(json.dumps({"store": gone, "run_id": "0" * 32, "sent": 0}))
    with pytest.raises(UserError, match=r"is tracked in .*/gone\.db, and there is no such file\. Pass track"):
        add(stores[1], sweep)
    assert not (tmp_path / "gone.db").exists()


def test_a_run_of_an_unknown_store_is_not_taken_for_lost(tmp_path: Path, stores):
    sweep = write_sweep(tmp_path / "sweep", {"cond": ["adaln", "token"]})
    state = sweep.folder / "tracker/sent.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"run_id": "0" * 32, "sent": 0}))
    with pytest.raises(UserError, match=r"which is run 0{32} and tracked in another store"):
        add(stores[1], sweep)
    assert run_id(sweep) == "0" * 32


def test_a_sweep_whose_server_was_away_goes_to_that_server(tmp_path: Path, stores, caplog):
    sweep = write_sweep(tmp_path / "sweep", {"cond": ["adaln", "token"]}, lambda _: {"fid": 1.0})
    with parent_run(MlflowTracker("http://ada:secret@127.0.0.1:1", "tests", 0.2), sweep):
        pass
    strangers = runs(stores[1])
    with afterwards(MlflowTracker(stores[1], "tests", 0.2), sweep):
        pass
    assert runs(stores[1]) == strangers
    assert "could not be sent to http://127.0.0.1:1." in caplog.messages[-1]
    assert not [p for p in sweep.folder.rglob("*") if p.is_file() and b"secret" in p.read_bytes()]

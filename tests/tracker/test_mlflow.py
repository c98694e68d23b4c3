from __future__ import annotations

import json
import logging
import math
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dit_exp.errors import UserError
from dit_exp.tracker import sender
from dit_exp.tracker.mlflow import MlflowTracker
from dit_exp.types.training import Tracker

ROOT = Path(__file__).parents[2]


def run_id(run_dir):
    return json.loads((run_dir / "tracker/sent.json").read_text())["run_id"]


def points(client, run_dir, key):
    """(step, value) as MLflow holds them, in the order in which they were logged."""
    history = client.get_metric_history(run_id(run_dir), key)
    return [(m.step, m.value) for m in sorted(history, key=lambda m: (m.timestamp, m.step))]


@pytest.fixture
def closed_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_what_is_logged_arrives(tmp_path, tracker, client, picture):
    run = tracker()
    assert isinstance(run, Tracker)
    parameters = {f"group.key{i}": i for i in range(250)} | {"attn": "gqa", "long": "x" * 7000}
    run.start(tmp_path, parameters, {"git_commit": "abc"}, "attn=gqa")
    before = time.time() * 1000
    for step in range(1500):
        run.log({"loss": 1 / (step + 1), "lr": 1e-4}, step)
    after = time.time() * 1000
    run.log({"bad": math.nan, "high": math.inf}, 7)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    run.artifact(tmp_path / "config.yaml")
    for step in (100, 200):
        run.image("samples", picture(step), step)  # overwrites the file of the step before
    run.finish()

    found = client.get_run(run_id(tmp_path))
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "attn=gqa"
    assert found.data.tags["git_commit"] == "abc"
    assert len(found.data.params) == 252
    assert found.data.params["group.key249"] == "249"
    assert found.data.params["long"] == "x" * 6000
    assert points(client, tmp_path, "loss") == [(i, 1 / (i + 1)) for i in range(1500)]
    times = [m.timestamp for m in client.get_metric_history(run_id(tmp_path), "loss")]
    assert before - 1 <= min(times)
    assert max(times) <= after + 1
    assert math.isnan(points(client, tmp_path, "bad")[0][1])
    place = Path(client.download_artifacts(run_id(tmp_path), "images", str(tmp_path)))
    assert sorted(p.name.partition("+timestamp")[0] for p in place.glob("*.png")) == [
        "samples+step+100",
        "samples+step+200",
    ]
    from PIL import Image

    reds = {p.name.split("+")[2]: Image.open(p).getpixel((0, 0))[0] for p in place.glob("*.png")}
    assert reds == {"100": 100, "200": 200}
    assert Path(client.download_artifacts(run_id(tmp_path), "config.yaml")).read_text() == "seed: 0\n"
    assert list((tmp_path / "tracker/pending").iterdir()) == []


def test_artifacts_lie_beside_the_database(tmp_path, tracker, client, database):
    run = tracker()
    run.start(tmp_path, {}, {}, "place")
    run.finish()
    folder = Path(database.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert client.get_run(run_id(tmp_path)).info.artifact_uri.startswith(folder.as_uri())


def test_a_resumed_run_goes_on_and_repeats_no_point(tmp_path, tracker, client, picture):
    first = tracker()
    first.start(tmp_path, {"seed": 0, "trainer.max_steps": 5}, {}, "first")
    for step in range(10):
        first.log({"loss": 10.0 - step, "images_per_second": 100.0}, step)
    first.image("samples", picture(9), 9)
    first.finish("KILLED")
    name = run_id(tmp_path)
    assert client.get_run(name).info.status == "KILLED"

    second = tracker()
    second.start(tmp_path, {"seed": 0, "trainer.max_steps": 15, "new": 1}, {}, "second")
    for step in range(5, 15):
        second.log({"loss": 10.0 - step, "images_per_second": 90.0}, step)
        second.image("samples", picture(step), step)
        if step == 12:
            wait_until(lambda: client.get_run(name).info.status == "RUNNING")
    second.finish()

    assert run_id(tmp_path) == name
    found = client.get_run(name)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"seed": "0", "trainer.max_steps": "5", "new": "1"}
    assert found.data.tags["resumed_with"] == "trainer.max_steps=15"
    assert points(client, tmp_path, "loss") == [(i, 10.0 - i) for i in range(15)]
    assert points(client, tmp_path, "images_per_second") == [
        (i, 100.0 if i < 10 else 90.0) for i in range(15)
    ]
    pictures = [f.path for f in client.list_artifacts(name, "images") if f.path.endswith(".png")]
    assert sorted(int(p.split("+")[2]) for p in pictures) == [9, 10, 11, 12, 13, 14]


def test_a_new_score_of_a_finished_run_is_kept_and_an_equal_one_is_not_doubled(tmp_path, tracker, client):
    for score in (9.0, 9.0, 7.5):
        run = tracker()
        run.start(tmp_path, {}, {}, "score")
        run.log({"fid": score}, 100)
        run.finish()
    assert points(client, tmp_path, "fid") == [(100, 9.0), (100, 7.5)]
    assert client.get_run(run_id(tmp_path)).data.metrics["fid"] == 7.5


def test_an_event_that_is_refused_stops_no_other(tmp_path, tracker, client, caplog):
    run = tracker()
    run.start(tmp_path, {}, {}, "refused")
    for step in range(3):
        run.log({"loss": 1.0}, step)
        run.log({"100% wrong?": 1.0}, step)
    (tmp_path / "note.png").write_text("no picture")
    run.image("note", tmp_path / "note.png", 3)
    run.log({"loss": 1.0}, 3)
    run.finish()
    assert points(client, tmp_path, "loss") == [(i, 1.0) for i in range(4)]
    texts = [r.getMessage() for r in caplog.records if "refuses" in r.getMessage()]
    assert len(texts) == 2
    assert "100% wrong?" in texts[0]
    assert "note.png" in texts[1]


def test_a_run_that_the_store_has_lost_is_sent_anew(tmp_path, tracker, client):
    run = tracker()
    run.start(tmp_path, {"seed": 0}, {}, "lost")
    run.log({"loss": 1.0}, 0)
    run.finish()
    old = run_id(tmp_path)
    client.delete_run(old)
    run = tracker()
    run.start(tmp_path, {"seed": 0}, {}, "lost")
    run.log({"loss": 0.5}, 1)
    run.finish()
    assert run_id(tmp_path) != old
    assert points(client, tmp_path, "loss") == [(0, 1.0), (1, 0.5)]


def test_another_store_gets_a_run_of_its_own_and_the_first_one_goes_on_later(
    tmp_path, tracker, client, tmp_path_factory, caplog
):
    from mlflow import MlflowClient

    other = f"sqlite:///{tmp_path_factory.mktemp('other')}/mlflow.db"
    names = []
    for step, uri in enumerate((client.tracking_uri, other, client.tracking_uri)):
        run = tracker(uri)
        run.start(tmp_path, {"seed": 0}, {}, "moved")
        run.log({"loss": 1.0 * step}, step)
        run.finish()
        names.append(run_id(tmp_path))
    first, second, third = names
    assert (first == third, first == second) == (True, False)
    assert points(client, tmp_path, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    history = MlflowClient(other).get_metric_history(second, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 1.0)]
    said = [text for text in caplog.messages if text.startswith("This run is")]
    assert [text.partition(", which")[0] for text in said] == [
        f"This run is {first} in {client.tracking_uri}", f"This run is {second} in {other}",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "tracker/sent.json").read_text())
    assert stored["elsewhere"][other]["run_id"] == second


def test_a_cell_is_put_under_its_sweeps_run_in_the_same_store_alone(tmp_path, tracker, client):
    parents = []
    for name, store in (("here", client.tracking_uri), ("away", "http://away:5000")):
        (tmp_path / name / "tracker").mkdir(parents=True)
        state = {"store": store, "run_id": "0" * 32, "sent": 0}
        (tmp_path / name / "tracker/sent.json").write_text(json.dumps(state))
        run = tracker()
        run.start(tmp_path / name / "0", {}, {}, "cell", tmp_path / name)
        run.finish()
        parents.append(client.get_run(run_id(tmp_path / name / "0")).data.tags.get("mlflow.parentRunId"))
    assert parents == ["0" * 32, None]


def test_without_a_server_the_run_goes_on_and_another_start_sends_what_was_kept(
    tmp_path, tracker, client, picture, closed_port, caplog
):
    caplog.set_level(logging.WARNING, "dit_exp")
    run = tracker(f"http://name:secret@127.0.0.1:{closed_port}", patience=0.5)
    run.start(tmp_path, {"seed": 0}, {}, "away")
    for step in range(20):
        run.log({"loss": 1.0 * step}, step)
    run.image("samples", picture(20), 20)
    begin = time.monotonic()
    run.finish("FAILED")
    assert time.monotonic() - begin < 1.5
    events = tmp_path / "tracker/events.jsonl"
    message = caplog.messages[-1]
    assert message.startswith(f"23 events could not be sent to http://127.0.0.1:{closed_port}.")
    assert str(events) in message
    assert f"run_dir={tmp_path}" in message
    assert "secret" not in caplog.text

    run = tracker()
    run.start(tmp_path, {"seed": 0}, {}, "back")
    run.log({"loss": 20.0}, 20)
    run.finish()
    assert points(client, tmp_path, "loss") == [(i, 1.0 * i) for i in range(21)]
    assert len(client.list_artifacts(run_id(tmp_path), "images")) == 2  # full size and compressed


def test_a_server_that_never_answers_holds_nothing_up(tmp_path, tracker):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.5)
        begin = time.monotonic()
        run.start(tmp_path, {}, {}, "silent")
        for step in range(100):
            run.log({"loss": 1.0}, step)
        run.finish()
        assert time.monotonic() - begin < 1.5
    assert run._spool.unsent() == 102


def test_one_warning_when_the_store_is_away_and_one_when_it_is_back(tmp_path, tracker, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "dit_exp")
    monkeypatch.setattr(sender, "FIRST", 0.05)
    run = tracker()
    run.start(tmp_path, {}, {}, "break")
    wait_until(lambda: run._spool.unsent() == 0)
    send = run._sender.store.send
    failures = []

    def broken(events):
        failures.append(len(events))
        raise ConnectionError("connection lost\nat line 2")

    monkeypatch.setattr(run._sender.store, "send", broken)
    run.log({"loss": 1.0}, 0)
    wait_until(lambda: len(failures) >= 3)
    monkeypatch.setattr(run._sender.store, "send", send)
    run.finish()
    away, back = caplog.messages
    assert "cannot be reached (connection lost). The run goes on; what it logs waits in" in away
    assert back.endswith("is back.")


@pytest.mark.parametrize(
    ("uri", "wrong"),
    [
        (
            "ftp://host/x",
            "tracker.uri=ftp://host/x is none of http, https, sqlite, postgresql, mysql, mssql.",
        ),
        ("mlruns", "tracker.uri=mlruns is none of"),
        ("http://:5000", "tracker.uri=http://:5000 names no host and port."),
        ("http://host:port", "tracker.uri=http://host:port names no host and port."),
        ("sqlite://", "tracker.uri=sqlite:// names no file."),
        ("sqlite:///:memory:", "tracker.uri=sqlite:///:memory: names no file."),
        ("sqlite:////proc/none/mlflow.db", "tracker.uri=sqlite:////proc/none/mlflow.db cannot be used ("),
    ],
)
def test_a_wrong_address_is_said_at_start(tmp_path, uri, wrong):
    with pytest.raises(UserError) as error:
        MlflowTracker(uri, "tests").start(tmp_path, {}, {}, "wrong")
    assert str(error.value).startswith(wrong)
    assert "tracker=none" in str(error.value)


def test_a_file_that_is_no_database_of_mlflow_is_said_at_start(tmp_path):
    import sqlite3

    (tmp_path / "text.db").write_text("no database" * 100)
    with sqlite3.connect(tmp_path / "old.db") as old:
        for table in ("experiments", "runs", "metrics"):
            old.execute(f"CREATE TABLE {table} (a)")
    for name, reason in (("text", "file is not a database"), ("old", "")):
        with pytest.raises(UserError, match=rf"{name}\.db cannot be used \(.*{reason}.*tracker=none"):
            MlflowTracker(f"sqlite:///{tmp_path}/{name}.db", "tests").start(tmp_path, {}, {}, "wrong")


def test_a_deleted_experiment_is_said_at_start(tmp_path, database, client):
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(UserError, match=r"tracker.experiment=gone was deleted in .* Choose another name"):
        MlflowTracker(database, "gone").start(tmp_path, {}, {}, "gone")


@pytest.mark.system
def test_two_processes_that_start_at_once_in_a_new_database_lose_nothing(tmp_path):
    program = """
import sys
from pathlib import Path
from dit_exp.tracker.mlflow import MlflowTracker
store, run_dir = Path(sys.argv[1]), Path(sys.argv[2])
run = MlflowTracker(f"sqlite:///{store}/mlflow.db", "both", patience=60)
run.start(run_dir, {"seed": 0}, {}, run_dir.name)
for step in range(600):
    run.log({f"metric{k}": step + k for k in range(5)}, step)
run.finish()
"""
    folders = [tmp_path / "a", tmp_path / "b"]
    commands = [[sys.executable, "-c", program, str(tmp_path / "store"), str(f)] for f in folders]
    processes = [subprocess.Popen(c, cwd=ROOT, stderr=subprocess.PIPE, text=True) for c in commands]
    errors = [p.communicate(timeout=120)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], errors
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/store/mlflow.db")
    for folder in folders:
        for k in range(5):
            assert points(client, folder, f"metric{k}") == [(i, float(i + k)) for i in range(600)]


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_full_disk_loses_an_event_and_not_the_run(tmp_path, tracker, client, picture, monkeypatch, caplog):
    run = tracker()
    run.start(tmp_path, {}, {}, "run")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(run._spool, "append", full)
        disk.setattr(run._spool, "keep", full)
        run.log({"loss": 3.0}, 1)
        run.image("samples", picture(1), 1)
    run.log({"loss": 2.0}, 2)
    run.finish()
    assert "cannot be written (No space left on device): an event is lost" in caplog.text
    assert "cannot be kept for the tracker (No space left on device)" in caplog.text
    assert points(client, tmp_path, "loss") == [(2, 2.0)]

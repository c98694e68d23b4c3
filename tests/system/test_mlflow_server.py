"""A real MLflow server on the loopback that goes away and comes back while a run logs."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from made_server import free_port, made_server
from PIL import Image

from dit_exp.tracker.mlflow import MlflowTracker

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
PATIENCE = 2.0


class Server:
    """`mlflow server` on one port and one SQLite file, to be stopped and started."""

    def __init__(self, folder):
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process = None

    def start(self):
        command = [Path(sys.executable).parent / "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", f"{self.folder}/mlartifacts"]
        settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=os.environ | settings,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )
        end = time.monotonic() + 120
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("server"))
    yield one
    one.stop()


@pytest.fixture
def running(server):
    if not server.process or server.process.poll() is not None:
        server.start()
    return server


@pytest.fixture
def points(running):
    from mlflow import MlflowClient

    client = MlflowClient(running.uri)

    def read(run_dir, key):
        run_id = json.loads((run_dir / "tracker/sent.json").read_text())["run_id"]
        history = client.get_metric_history(run_id, key)
        return [(m.step, m.value) for m in sorted(history, key=lambda m: (m.timestamp, m.step))]

    read.client = client
    return read


def logged(run, steps):
    """Logs the steps; returns the longest time that one call took, in seconds."""
    longest = 0.0
    for step in steps:
        begin = time.perf_counter()
        run.log({"loss": 1.0 * step}, step)
        longest = max(longest, time.perf_counter() - begin)
        time.sleep(0.01)
    return longest


def wait_until_sent(run, seconds=60):
    end = time.monotonic() + seconds
    while run._spool.unsent():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_server_that_is_stopped_and_started_loses_no_point(tmp_path, running, points, caplog):
    caplog.set_level(logging.WARNING, "dit_exp")
    run = MlflowTracker(running.uri, "system", patience=60)
    run.start(tmp_path, {"seed": 0}, {"git_commit": "abc"}, "restart")
    logged(run, range(100))
    wait_until_sent(run)
    running.stop()
    longest = logged(run, range(100, 300))
    Image.new("RGB", (8, 8)).save(tmp_path / "samples.png")
    run.image("samples", tmp_path / "samples.png", 300)
    time.sleep(1)
    assert run._spool.unsent() == 201
    running.start()
    longest = max(longest, logged(run, range(300, 400)))
    run.finish()
    assert points(tmp_path, "loss") == [(i, 1.0 * i) for i in range(400)]
    assert longest < 0.05
    away, back = caplog.messages
    assert f"The tracking server {running.uri} cannot be reached" in away
    assert "The run goes on" in away
    assert back == f"The tracking server {running.uri} is back."
    run_id = json.loads((tmp_path / "tracker/sent.json").read_text())["run_id"]
    assert points.client.get_run(run_id).info.status == "FINISHED"
    assert len(points.client.list_artifacts(run_id, "images")) == 2  # full size and compressed


def test_a_run_killed_and_resumed_has_every_point_once(tmp_path, running, points):
    program = """
import os, signal, sys, time
from pathlib import Path
from dit_exp.tracker.mlflow import MlflowTracker
run = MlflowTracker(sys.argv[1], "system")
run.start(Path(sys.argv[2]), {"seed": 0}, {}, "killed")
for step in range(200):
    run.log({"loss": 1.0 * step}, step)
    if step == 100:
        while run._spool.sent == 0:
            time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", program, running.uri, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -signal.SIGKILL
    run = MlflowTracker(running.uri, "system")
    run.start(tmp_path, {"seed": 0}, {}, "killed")
    logged(run, range(150, 250))
    run.finish()
    assert points(tmp_path, "loss") == [(i, 1.0 * i) for i in range(250)]


def test_a_server_that_stays_away_stops_nothing_and_a_later_start_sends_the_rest(
    tmp_path, running, points, caplog
):
    run = MlflowTracker(running.uri, "system", patience=PATIENCE)
    run.start(tmp_path, {"seed": 0}, {}, "away")
    logged(run, range(50))
    wait_until_sent(run)
    running.stop()
    assert logged(run, range(50, 250)) < 0.05
    begin = time.monotonic()
    run.finish()
    assert time.monotonic() - begin < PATIENCE + 1
    assert caplog.messages[-1].startswith(f"201 events could not be sent to {running.uri}. They are kept in")
    assert str(tmp_path / "tracker/events.jsonl") in caplog.messages[-1]

    again = MlflowTracker(running.uri, "system", patience=PATIENCE)
    begin = time.monotonic()
    again.start(tmp_path, {"seed": 0}, {}, "away")  # the server is still away
    assert time.monotonic() - begin < 1
    again.finish()

    running.start()
    last = MlflowTracker(running.uri, "system")
    last.start(tmp_path, {"seed": 0}, {}, "away")
    last.finish()
    assert points(tmp_path, "loss") == [(i, 1.0 * i) for i in range(250)]


@pytest.mark.timeout(600)
def test_a_server_killed_in_mid_sweep_for_a_minute_loses_no_metric(tmp_path, running):
    """Its runs end while it is away; the sweep's end, or the same command again, sends what they logged."""
    from mlflow import MlflowClient

    command = [
        sys.executable, str(ROOT / "run.py"), "-m", "seed=0,1", "data=digits", "data.image_size=8",
        "metrics=none", "sampler.steps=2", "model.width=32", "model.depth=1", "model.heads=4",
        "trainer.batch_size=32", "trainer.max_steps=400", "trainer.log_every=1", f"run_dir={tmp_path}/s",
        "tracker.experiment=killed", f"tracker.uri={running.uri}", "tracker.patience=3",
    ]  # fmt: skip
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = tmp_path / "s" / "0" / "history.jsonl"
    end = time.monotonic() + 120
    while not first.exists() or len(first.read_text().splitlines()) < 50:
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    running.stop()
    away = time.monotonic()
    _, text = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, text
    time.sleep(max(0.0, 60 - (time.monotonic() - away)))
    running.start()
    patient = [*command[:-1], "tracker.patience=60"]
    again = subprocess.run(patient, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    client = MlflowClient(running.uri)
    runs = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    cells = [run for run in runs if "cell" in run.data.tags]
    assert len(cells) == 2
    [parent] = [run for run in runs if "cell" not in run.data.tags]
    for run in cells:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
        losses = client.get_metric_history(run.info.run_id, "loss")
        assert sorted(metric.step for metric in losses) == list(range(1, 401))


def test_the_server_for_several_machines_asks_for_a_password_where_told_to(tmp_path):
    def answer(user: str | None) -> int:
        request = urllib.request.Request(f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0")
        if user:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code

    words = ["AUTH=1", f"STORE=sqlite:///{tmp_path}/mlflow.db"]
    with made_server(tmp_path, *words, MLFLOW_AUTH_ADMIN_PASSWORD="a-long-password") as uri:
        assert answer(None) == 401
        assert answer("admin:wrong") == 401
        assert answer("admin:a-long-password") == 200

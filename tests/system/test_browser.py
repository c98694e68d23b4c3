"""What a person sees: a sweep in the MLflow UI and its report, in headless Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import program
import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
CHROMIUM = shutil.which("chromium")
SCORE = "fd_efficientnet_lite0_24"


def page(url: str, picture: Path, width: int = 1500, height: int = 1000) -> str:
    """The page's text after its scripts have run; its screenshot goes to `picture`."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ]
    flags += ["--virtual-time-budget=30000", f"--user-data-dir={picture.parent}/profile"]
    command = [str(CHROMIUM), *flags, f"--screenshot={picture}", url]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    dumped = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", url], check=True, capture_output=True, text=True, timeout=120
    )
    return dumped.stdout


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two conditionings by two seeds on digits, with scores."""
    folder = tmp_path_factory.mktemp("browser")
    words = [
        "-m", "cond=adaln,token", "seed=0,1", "data=digits", "data.image_size=8", "metrics=quick",
        "metrics.num_samples=24", "metrics.reference_samples=50", "sampler.steps=2", "model.width=32",
        "model.depth=1", "model.heads=4", "trainer.batch_size=32", "trainer.max_steps=20",
        "trainer.warmup_steps=1", f"run_dir={folder}/sweep", f"tracker.uri=sqlite:///{folder}/mlflow.db",
    ]  # fmt: skip
    done = program.run(*words)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(sweep: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{sweep}/mlflow.db"]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (sweep / "ui.log").open("ab") as log:
        server = subprocess.Popen(
            command, env=os.environ | settings, stdout=log, stderr=log, cwd=sweep, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                assert server.poll() is None, (sweep / "ui.log").read_text()
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def children(sweep: Path) -> list[str]:
    from mlflow import MlflowClient

    runs = MlflowClient(f"sqlite:///{sweep}/mlflow.db").search_runs(["1"])
    return [run.info.run_id for run in runs if "mlflow.parentRunId" in run.data.tags]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium: not installed. apt-get install chromium")
def test_the_runs_of_a_sweep_stand_with_their_scores_and_compare_in_a_chart(sweep: Path, address: str):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep}/mlflow.db")
    [parent] = [run for run in client.search_runs(["1"]) if "mlflow.parentRunId" not in run.data.tags]
    text = page(f"{address}/{parent.data.tags['table']}", sweep / "runs.png", width=2000)
    seen = re.sub(r"<[^>]+>", " ", text)
    assert SCORE in seen
    for run in children(sweep):
        assert f"{client.get_run(run).data.metrics[SCORE]:.9f}"[:8] in seen  # the value, not the name alone
    assert "sweep sweep" not in seen  # its runs alone

    runs = children(sweep)
    assert len(runs) == 4
    chosen = urllib.parse.quote(json.dumps(runs))
    compare = page(f"{address}/#/compare-runs?runs={chosen}&experiments=%5B%221%22%5D", sweep / "compare.png")
    assert "Comparing 4 Runs" in re.sub(r"<[^>]+>", " ", compare).replace("  ", " ")
    assert SCORE in compare
    assert "plotly" in compare  # the chart
    for picture in ("runs.png", "compare.png"):
        assert (sweep / picture).stat().st_size > 30_000  # an empty page is smaller


@pytest.mark.skipif(CHROMIUM is None, reason="chromium: not installed. apt-get install chromium")
def test_the_report_opens_on_a_desk_and_on_a_phone(sweep: Path):
    words = [f"sweep={sweep}/sweep", "task=report", f"run_dir={sweep}/report", "tracker=none"]
    assert program.run(*words).returncode == 0
    report = sweep / "sweep" / "report" / "index.html"
    for name, width in (("desk", 1200), ("phone", 390)):
        text = page(report.as_uri(), sweep / f"{name}.png", width, 2400)
        assert SCORE.rpartition("_")[0] in text
        assert "cond" in text
        assert (sweep / f"{name}.png").stat().st_size > 30_000

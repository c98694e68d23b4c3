"""task=report from the command line: what it writes, what it logs, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import program
import pytest
from sweeping import write_sweep


def run(tmp_path: Path, *words: str, **env: str) -> CompletedProcess[str]:
    return program.run("task=report", f"run_dir={tmp_path}/run", *words, cwd=tmp_path, env=os.environ | env)


@pytest.mark.system
def test_the_page_lies_in_the_sweeps_folder_and_in_its_run(tmp_path: Path):
    from mlflow import MlflowClient

    scores = {"adaln": 50.0, "token": 40.0}
    axes = {"cond": ["adaln", "token"], "seed": ["0", "1"]}
    sweep = write_sweep(tmp_path / "sweep", axes, lambda s: {"fid": scores[s["cond"]] + int(s["seed"]) / 10})
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = run(tmp_path, "sweep=sweep", f"tracker.uri={uri}")
    assert first.returncode == 0, first.stderr
    verdict = "cond=token wins: its fid, n = 5,000 is 40.05 [39.41, 40.69], 10 [10, 10] lower than"
    assert verdict in (sweep.folder / "report" / "report.md").read_text()
    assert verdict in first.stdout + first.stderr
    run_id = json.loads((sweep.folder / "tracker/sent.json").read_text())["run_id"]
    client = MlflowClient(uri)
    assert client.get_run(run_id).data.tags["sweep"] == "conditioning"
    logged = {entry.path for entry in client.list_artifacts(run_id)}
    assert {path.name for path in (sweep.folder / "report").iterdir()} <= logged

    again = run(tmp_path, f"sweep={run_id}", f"tracker.uri={uri}")
    assert again.returncode == 0, again.stderr
    assert f"Report: {sweep.folder}/report/index.html" in again.stdout + again.stderr
    [experiment] = [e for e in client.search_experiments() if e.name == "dit_exp"]
    assert len(client.search_runs([experiment.experiment_id])) == 1

    other = f"sqlite:///{tmp_path}/other.db"
    elsewhere = run(tmp_path, "sweep=sweep", f"tracker.uri={other}")
    assert elsewhere.returncode == 2
    assert f"tracker.uri={other}: there is no such file" in elsewhere.stderr
    default = run(tmp_path, "sweep=sweep", MLFLOW_TRACKING_URI=other)
    assert default.returncode == 0, default.stderr
    assert f"is tracked in {uri}, which gets what is made of it." in default.stdout + default.stderr
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert not (tmp_path / "other.db").exists()


@pytest.mark.system
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tracker=none"], "task.sweep=???: a value is missing. Pass task.sweep=VALUE."),
        (["sweep=nowhere", "tracker=none"], "sweep=nowhere is no directory here, and no MLflow run id"),
        (["sweep=waiting", "tracker=none"], "waiting has no finished cell to report on (2 waiting)."),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(tmp_path: Path, words: list[str], message: str):
    write_sweep(tmp_path / "waiting", {"cond": ["adaln", "token"]})
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr

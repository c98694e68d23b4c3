"""Fifty runs through a real Slurm of two nodes, some of them requeued: nothing is lost."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_sweeps import finish, hasten, jobs, start, steps, sweep_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_fifty_runs_with_preemptions_lose_nothing(slurm: Cluster, tmp_path: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    seeds = ",".join(map(str, range(25)))
    words = ["cond=adaln,token", f"seed={seeds}", "run_dir=s", "tracker=mlflow", f"tracker.uri={uri}"]
    run = start(slurm, tmp_path, *words)
    preempted: set[str] = set()
    while run.poll() is None:
        time.sleep(1)
        for job, state, _ in jobs(slurm):
            number = job.rpartition("_")[2]
            if (
                state == "RUNNING"
                and len(preempted) < 5
                and job not in preempted
                and steps_known(tmp_path, number)
            ):
                subprocess.run(
                    ["scontrol", "requeue", job], env=os.environ | slurm.env, capture_output=True, check=False
                )
                preempted.add(job)
        hasten(slurm)
    finish(run)
    statuses = [cell.status for cell in sweep_of(tmp_path / "s")]
    table = {
        "submitted": len(statuses),
        "finished": sum(status.state == "finished" for status in statuses),
        "started again": sum(status.attempts > 1 for status in statuses),
    }
    print(table)
    assert table["submitted"] == table["finished"] == 50
    assert preempted
    client = MlflowClient(uri)
    runs = client.search_runs(["1"], max_results=1000)
    assert len([run for run in runs if "mlflow.parentRunId" in run.data.tags]) == 50
    for one in runs:
        if "cell" in one.data.tags:
            losses = client.get_metric_history(one.info.run_id, "loss")
            assert [metric.step for metric in losses] == list(range(1, 31)), one.data.tags["cell"]


def steps_known(place: Path, number: str) -> bool:
    return number.isdigit() and steps(place / "s" / number) > 0

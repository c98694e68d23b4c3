"""Many runs through a real Slurm of two nodes, some of them requeued: nothing is lost.

Twenty, or as many as SLURM_RUNS says.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_sweeps import finish, hasten, jobs, start, steps, sweep_of

SEEDS = int(os.environ.get("SLURM_RUNS", "20")) // 2
RUNS = 2 * SEEDS
PREEMPTED = max(1, RUNS // 10)

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_many_runs_with_preemptions_lose_nothing(slurm: Cluster, tmp_path: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    seeds = ",".join(map(str, range(SEEDS)))
    words = ["cond=adaln,token", f"seed={seeds}", "run_dir=s", "tracker=mlflow", f"tracker.uri={uri}"]
    run = start(slurm, tmp_path, *words)
    preempted: set[int] = set()
    while run.poll() is None:
        time.sleep(1)
        for job, state, _ in jobs(slurm):
            task = job.rpartition("_")[2]
            enough = len(preempted) == PREEMPTED
            if state != "RUNNING" or enough or not task.isdigit() or int(task) in preempted:
                continue
            if steps(tmp_path / "s" / task) > 0 and requeued(slurm, job):
                preempted.add(int(task))
        hasten(slurm)
    finish(run)
    cells = sweep_of(tmp_path / "s")
    again = {cell.number for cell in cells if cell.status.attempts > 1}
    table = {
        "submitted": len(cells),
        "finished": sum(cell.status.state == "finished" for cell in cells),
        "started again": len(again),
    }
    print(table)
    assert table == {"submitted": RUNS, "finished": RUNS, "started again": PREEMPTED}
    assert again == preempted
    client = MlflowClient(uri)
    runs = client.search_runs(["1"], max_results=1000)
    assert len([run for run in runs if "mlflow.parentRunId" in run.data.tags]) == RUNS
    for one in runs:
        if "cell" in one.data.tags:
            losses = client.get_metric_history(one.info.run_id, "loss")
            assert [metric.step for metric in losses] == list(range(1, 31)), one.data.tags["cell"]


def requeued(cluster: Cluster, job: str) -> bool:
    """Takes a job from its node; tells whether Slurm did: a job that is just ending it may leave alone."""
    command = ["scontrol", "requeue", job]
    done = subprocess.run(command, env=os.environ | cluster.env, capture_output=True, check=False)
    return done.returncode == 0

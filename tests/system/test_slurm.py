"""Sweeps through a real Slurm of two nodes: what they record, failures, and commands that come again."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_sweeps import (
    OFFLINE,
    assert_same_run,
    environment,
    finish,
    in_this_process,
    jobs,
    processes,
    start,
    steps,
    sweep_of,
    until,
)

from dit_exp import checkpoint

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_an_ablation_runs_on_both_nodes_and_stands_under_one_run_in_mlflow(slurm: Cluster, tmp_path: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    words = ["cond=adaln,token", "attn=mha,gqa", "run_dir=s", "tracker=mlflow", f"tracker.uri={uri}"]
    text = finish(start(slurm, tmp_path, *words))
    cells = sweep_of(tmp_path / "s")
    assert [(cell.status.state, cell.status.attempts) for cell in cells] == [("finished", 1)] * 4
    assert "adaln" in text
    assert "finished" in text
    client = MlflowClient(uri)
    runs = client.search_runs(["1"])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 4
    assert {(c.data.params["cond"], c.data.params["attn"]) for c in children} == {
        (cond, attn) for cond in ("adaln", "token") for attn in ("mha", "gqa")
    }
    assert parent.data.metrics["finished"] == 4
    assert "cond=adaln,token" in parent.data.params["command"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    nodes = slurm.output("scontrol", "-o", "show", "jobs")
    assert {"n1", "n2"} <= set(re.findall(r" NodeList=(n\d)", nodes))


def test_a_killed_process_fails_its_run_alone_and_the_same_command_mends_it(slurm: Cluster, tmp_path: Path):
    """One process of two, on two nodes, dies by kill -9."""
    longer = ["trainer.max_steps=600", "trainer.checkpoint_every=50"]
    two = ["hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1", "run_dir=s"]
    words = [*longer, "seed=0,1", *two]
    run = start(slurm, tmp_path, *words)
    cell = tmp_path / "s" / "0"
    until(lambda: steps(cell) > 120, "steps of two processes", run)
    [job] = [job for job, state, _ in jobs(slurm) if state == "RUNNING"]
    ranks = processes(slurm)
    assert sorted(ranks) == ["0", "1"], job
    for pid in ranks.values():
        seen = environment(pid)
        assert seen["HF_HUB_OFFLINE"] == "1"  # of the launcher's own setup, as on nodes without internet
        assert OFFLINE.items() <= seen.items()
    os.kill(ranks["1"], signal.SIGKILL)
    text = finish(run, code=2)
    assert "1 of 2 runs of the sweep failed" in text
    failed, whole = sweep_of(tmp_path / "s")
    assert (failed.status.state, whole.status.state) == ("failed", "finished")
    assert failed.status.log in text
    saved = checkpoint.newest(cell)[1]["step"]
    assert saved >= 100

    finish(start(slurm, tmp_path, *words))
    assert [c.status.attempts for c in sweep_of(tmp_path / "s")] == [2, 1]
    in_this_process(tmp_path / "whole", *longer, "seed=0", "trainer.accumulate=2")
    assert_same_run(tmp_path / "whole", cell)


def test_sweeps_of_the_same_second_keep_apart(slurm: Cluster, tmp_path: Path):
    runs = [start(slurm, tmp_path, f"seed={seeds}") for seeds in ("0,1", "2,3", "0,1")]
    texts = [run.communicate(timeout=600) for run in runs]
    codes = [run.returncode for run in runs]
    # the same sweep twice: one runs it, the other is told so, or finds it done
    assert codes[1] == 0, texts[1]
    assert sorted((codes[0], codes[2])) in ([0, 0], [0, 2]), texts
    for code, (out, err) in zip(codes, texts, strict=True):
        assert code == 0 or "is being run by another process" in err, out + err
    places = sorted((tmp_path / "runs" / "sweeps").iterdir())
    assert len(places) == 2
    for place in places:
        assert [(c.status.state, c.status.attempts) for c in sweep_of(place)] == [("finished", 1)] * 2


def test_a_launching_process_that_was_ended_finds_its_jobs_again(slurm: Cluster, tmp_path: Path):
    words = ["trainer.max_steps=800", "seed=0,1,2", "run_dir=s"]
    run = start(slurm, tmp_path, *words)
    until(lambda: steps(tmp_path / "s" / "0") > 10, "the first steps", run)
    run.kill()
    run.wait()
    text = finish(start(slurm, tmp_path, *words))
    assert "jobs of an earlier command are still there" in text
    assert [(c.status.state, c.status.attempts) for c in sweep_of(tmp_path / "s")] == [("finished", 1)] * 3

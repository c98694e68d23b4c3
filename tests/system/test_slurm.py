"""Sweeps through a real Slurm of two nodes: preemption, timeouts and failures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from slurm_cluster import Cluster
from slurm_sweeps import OFFLINE, PROJECT, TINY, finish, hasten, jobs, start, steps, sweep_of, until

from dit_exp import checkpoint

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def assert_same_run(one: Path, two: Path) -> None:
    (_, a), (_, b) = checkpoint.find(str(one)), checkpoint.find(str(two))
    assert a["step"] == b["step"]
    for part in ("model", "ema"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), f"{part} {key}"
    assert (one / "history.jsonl").read_bytes() == (two / "history.jsonl").read_bytes()


def in_this_process(place: Path, *words: str) -> None:
    command = [sys.executable, str(PROJECT / "run.py"), *TINY, *words, f"run_dir={place}"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=env)


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


def test_preempted_and_requeued_jobs_go_on_in_the_same_run(slurm: Cluster, tmp_path: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    longer = ["trainer.max_steps=1500", "trainer.checkpoint_every=100000"]
    words = [*longer, "seed=0", "run_dir=s", "tracker=mlflow", f"tracker.uri={uri}"]
    run = start(slurm, tmp_path, *words)
    cell = tmp_path / "s" / "0"
    until(lambda: steps(cell) > 100, "the first steps", run)
    [[job, _, _]] = jobs(slurm)
    slurm.output("scancel", "--signal=USR2", job)
    until(lambda: sweep_of(tmp_path / "s")[0].status.state == "requeued", "a requeued run", run)
    saved = checkpoint.newest(cell)[1]["step"]
    assert saved > 100  # there is no periodic checkpoint: the signal saved it
    until(lambda: [state for _, state, _ in jobs(slurm)] == ["PENDING"], "a pending job", run)
    hasten(slurm)
    until(lambda: steps(cell) > saved + 100, "steps after the first requeue", run)
    slurm.output("scontrol", "requeue", job)  # SIGTERM, as when a node is taken
    until(lambda: [state for _, state, _ in jobs(slurm)] == ["PENDING"], "a pending job again", run)
    again = checkpoint.newest(cell)[1]["step"]
    assert again > saved + 100
    hasten(slurm)
    finish(run)
    assert sweep_of(tmp_path / "s")[0].status.attempts == 3
    in_this_process(tmp_path / "whole", *longer, "seed=0")
    assert_same_run(tmp_path / "whole", cell)
    runs = MlflowClient(uri).search_runs(["1"])
    assert len(runs) == 2
    losses = MlflowClient(uri).get_metric_history(
        next(run.info.run_id for run in runs if "cell" in run.data.tags), "loss"
    )
    assert [metric.step for metric in losses] == list(range(1, 1501))


def test_a_job_whose_time_is_up_is_started_again_and_goes_on(slurm: Cluster, tmp_path: Path):
    words = ["trainer.max_steps=1000000", "trainer.max_minutes=1.7", "seed=0", "run_dir=s"]
    times = ["hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30"]
    run = start(slurm, tmp_path, *words, "trainer.checkpoint_every=100000", *times)
    until(lambda: sweep_of_or_none(tmp_path / "s") == "requeued", "a requeue before the timeout", run)
    until(lambda: [state for _, state, _ in jobs(slurm)] == ["PENDING"], "a pending job", run)
    hasten(slurm)
    finish(run)
    status = sweep_of(tmp_path / "s")[0].status
    assert (status.state, status.attempts) == ("finished", 2)
    assert json.loads((tmp_path / "s" / "0" / "metrics.json").read_text())["minutes"] >= 1.7


def sweep_of_or_none(place: Path) -> str | None:
    return sweep_of(place)[0].status.state if (place / "sweep.json").exists() else None


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


def processes(cluster: Cluster) -> dict[str, int]:
    """{rank: process id} of the run that this cluster is at."""
    pids = cluster.output("pgrep", "-f", "submitit.core._submit").split()
    found = {pid: environment(pid) for pid in pids}
    return {
        env["SLURM_PROCID"]: int(pid)
        for pid, env in found.items()
        if env.get("SLURM_CONF") == cluster.env["SLURM_CONF"] and "SLURM_STEP_NUM_TASKS" in env
    }


def environment(pid: str | int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def ticks_worked(pid: int) -> int:
    """Processor time of a process's first thread, in the system's ticks. Gloo's thread polls all the time."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13])


def test_a_run_whose_main_process_waits_in_a_collective_is_started_again(slurm: Cluster, tmp_path: Path):
    """Told to stop while it scores: the process that still draws is the only one that hears it."""
    scored = ["metrics=quick", "metrics.num_samples=400", "metrics.reference_samples=50", "sampler.steps=50"]
    two = ["hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1", "run_dir=s", "task.batch_size=10"]
    run = start(slurm, tmp_path, *scored, "seed=0", *two)
    cell = tmp_path / "s" / "0"
    until(lambda: (cell / "progress.png").exists(), "the end of the training", run)
    ranks = processes(slurm)
    assert sorted(ranks) == ["0", "1"]
    os.kill(ranks["1"], signal.SIGSTOP)  # it has its share to draw

    def waits() -> bool:
        before = ticks_worked(ranks["0"])
        time.sleep(3)
        return ticks_worked(ranks["0"]) == before

    until(waits, "a main process that has drawn its share", run)
    [[job, _, _]] = jobs(slurm)
    slurm.output("scancel", "--signal=USR2", job)
    os.kill(ranks["1"], signal.SIGCONT)
    until(lambda: sweep_of(tmp_path / "s")[0].status.state == "requeued", "a requeued run", run)
    until(lambda: [state for _, state, _ in jobs(slurm)] == ["PENDING"], "a pending job", run)
    hasten(slurm)
    finish(run)
    status = sweep_of(tmp_path / "s")[0].status
    assert (status.state, status.attempts) == ("finished", 2)
    assert "scores" in json.loads((cell / "metrics.json").read_text())


def test_a_node_whose_daemon_dies_gives_its_job_to_the_other_one(slurm: Cluster, tmp_path: Path):
    """Slurm starts the job anew while its first process still runs; the two must not mix."""
    longer = ["trainer.max_steps=3000", "trainer.checkpoint_every=100"]
    run = start(slurm, tmp_path, *longer, "seed=0", "run_dir=s")
    cell = tmp_path / "s" / "0"
    until(lambda: steps(cell) > 100, "the first steps", run)
    [[_, _, node]] = jobs(slurm)
    slurm.kill_node(node)
    try:
        slurm.output("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        until(lambda: [state for _, state, _ in jobs(slurm)] == ["PENDING"], "a requeued job", run)
        hasten(slurm)
        finish(run)
    finally:
        slurm.bring_back(node)
    assert sweep_of(tmp_path / "s")[0].status.state == "finished"
    in_this_process(tmp_path / "whole", *longer, "seed=0")
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
    words = ["trainer.max_steps=1500", "seed=0,1,2", "run_dir=s"]
    run = start(slurm, tmp_path, *words)
    until(lambda: steps(tmp_path / "s" / "0") > 10, "the first steps", run)
    run.kill()
    run.wait()
    text = finish(start(slurm, tmp_path, *words))
    assert "jobs of an earlier command are still there" in text
    assert [(c.status.state, c.status.attempts) for c in sweep_of(tmp_path / "s")] == [("finished", 1)] * 3

"""Runs that a real Slurm of two nodes stops and starts again: preemption, timeouts and lost nodes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_sweeps import (
    assert_same_run,
    finish,
    hasten,
    in_this_process,
    jobs,
    processes,
    start,
    steps,
    sweep_of,
    until,
)

from dit_exp import checkpoint

PATIENT = """
import time

from dit_exp.attn.mha import MultiHeadAttention


class Patient(MultiHeadAttention):
    def forward(self, x, c):
        time.sleep(0.1)
        return super().forward(x, c)
"""

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_preempted_and_requeued_jobs_go_on_in_the_same_run(slurm: Cluster, tmp_path: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    longer = ["trainer.max_steps=1000", "trainer.checkpoint_every=100000"]
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
    assert [metric.step for metric in losses] == list(range(1, 1001))


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words for an attention that waits, so that a run of minutes leaves the processors to other tests."""
    (tmp_path / "patient.py").write_text(PATIENT)
    (tmp_path / "conf" / "attn").mkdir(parents=True)
    (tmp_path / "conf" / "attn" / "patient.yaml").write_text("_target_: patient.Patient\n_partial_: true\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return [f"hydra.searchpath=[file://{tmp_path}/conf]", "attn=patient"]


def test_a_job_whose_time_is_up_is_started_again_and_goes_on(
    slurm: Cluster, tmp_path: Path, patient: list[str]
):
    words = [*patient, "trainer.max_steps=1000000", "trainer.max_minutes=1.7", "seed=0", "run_dir=s"]
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
    longer = ["trainer.max_steps=1500", "trainer.checkpoint_every=100"]
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

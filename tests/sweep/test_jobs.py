"""Jobs of several processes: whoever hears that time is up brings about the new start, and one alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from blocked import Blocked
from hydra.core.singleton import Singleton
from submitit.core.utils import DelayedSubmission

from dit_exp.sweep import folder, jobs
from dit_exp.sweep.folder import Cell, Sweep

PROJECT = Path(__file__).parents[2]
SCONTROL = """\
#!/bin/sh
case $1 in
  show) echo localhost ;;
  *) echo "$SLURM_LOCALID $*" >> {calls} ;;
esac
"""


def until(reached, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.1)
    return reached()


@pytest.mark.system
def test_a_main_process_that_waits_in_a_collective_is_stood_in_for(tmp_path: Path):
    """Two processes of gloo as Slurm and submitit start them, with an scontrol that writes down its calls."""
    Sweep(tmp_path, "sweep", [], [Cell(0, ["seed=0"], tmp_path / "0")]).write()
    calls, program = tmp_path / "calls", tmp_path / "scontrol"
    program.write_text(SCONTROL.format(calls=calls))
    program.chmod(0o755)
    job = DelayedSubmission(Blocked(tmp_path), [], "hydra.sweep.dir", 0, "0", Singleton.get_state())
    job.set_timeout(60, 3)
    number = 40_000_000 + os.getpid() % 20_000  # the port follows from it
    job.dump(tmp_path / f"{number}_submitted.pkl")
    env = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}",
        "OMP_NUM_THREADS": "1",
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": str(number),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
    }
    command = [sys.executable, "-m", "submitit.core._submit", str(tmp_path)]
    processes = [
        subprocess.Popen(
            command,
            env=env | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stderr=(tmp_path / f"{rank}.err").open("w"),
        )
        for rank in range(2)
    ]
    try:
        until(
            lambda: len(list(tmp_path.glob("ready*"))) == 2 or any(p.poll() is not None for p in processes),
            120,
        )
        assert len(list(tmp_path.glob("ready*"))) == 2, (tmp_path / "0.err").read_text()
        time.sleep(2)  # the main process is in the collective by then
        for process in processes:
            process.send_signal(signal.SIGUSR2)
        assert until(lambda: calls.exists() and calls.read_text() != "", jobs.TURN + 20)
        assert processes[1].wait(20) == 255  # of submitit after it has asked for the new start
        [cell] = folder.read(tmp_path).cells
        assert (cell.status.state, cell.status.attempts) == ("requeued", 1)
        assert "Stopped by SIGUSR2" in str(cell.status.error)
        assert calls.read_text().splitlines() == [f"1 requeue {number}"]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_main_process_takes_its_turn_at_once_and_a_second_one_waits(tmp_path: Path, monkeypatch):
    variables = {
        "SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": str(tmp_path), "SLURM_JOB_ID": "7",
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "SLURM_PROCID": "0",
    }  # fmt: skip
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    slept: list[float] = []

    class Waits(Exception):
        pass

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 1:
            raise Waits

    monkeypatch.setattr(jobs, "time", SimpleNamespace(sleep=sleep))  # other threads keep the real one
    jobs.await_turn()
    assert slept == []
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(Waits):
        jobs.await_turn()
    assert slept == [jobs.TURN, 1]

    # the next start of the job has its own turns, and there the other process may be the first
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    slept.clear()
    jobs.await_turn()
    assert slept == [jobs.TURN]
    assert os.environ["SLURM_PROCID"] == "0"

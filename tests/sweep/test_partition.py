"""A job asks for no more time than its partition gives, and a job that waits says what for."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dit_exp.sweep import jobs, launcher
from dit_exp.sweep.folder import Cell, Sweep
from dit_exp.sweep.jobs import SlurmQueue
from dit_exp.sweep.launcher import SlurmLauncher
from dit_exp.sweep.partition import UNLIMITED, longest

PARAMS = {
    "submitit_folder": "jobs/%j", "max_num_timeout": 100, "gpus_per_node": None, "tasks_per_node": None,
    "setup": None, "partition": "short", "timeout_min": 1440,
}  # fmt: skip


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch) -> Path:
    """Programs of a Slurm with the partitions short (an hour, the default), long (a day) and free."""
    programs = {
        "sbatch": "",
        "sinfo": "echo long; echo short*; echo free",
        "scontrol": """case $3 in
          short) echo MaxTime=01:00:00 ;;
          long) echo MaxTime=1-00:00:00 ;;
          free) echo MaxTime=UNLIMITED ;;
          *) echo no such partition >&2; exit 1 ;;
        esac""",
        "squeue": f"cat {tmp_path}/listing",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("partition", "minutes"), [("long", 1440), ("short,long", 1440), (None, 60), ("free", UNLIMITED)]
)
def test_the_longest_time_of_the_partitions_or_of_the_default_one(slurm: Path, partition, minutes):
    assert longest(partition) == minutes


@pytest.mark.parametrize(
    ("partition", "asked", "minutes"),
    [("short", 1440, 60), (None, 1440, 60), ("short", 30, 30), ("free", 99999, 99999), ("none", 9, 9)],
)
def test_a_job_asks_for_what_the_partition_gives(slurm: Path, caplog, partition, asked, minutes):
    with caplog.at_level(logging.INFO):
        queue = SlurmQueue(PARAMS | {"partition": partition, "timeout_min": asked})
    assert queue.params["timeout_min"] == minutes
    said = f"hydra.launcher.timeout_min={asked} is more than the partition gives, so a job gets {minutes}"
    assert (said in caplog.text) == (asked != minutes)


def test_what_the_jobs_wait_for_is_said_once(slurm: Path, tmp_path: Path, monkeypatch, caplog):
    cells = [Cell(number, [f"seed={number}"], tmp_path / str(number)) for number in range(2)]
    listing = tmp_path / "listing"
    listing.write_text("7_0 PENDING PartitionTimeLimit\n7_1 PENDING (Nodes required are DOWN)\n")
    monkeypatch.setattr(launcher, "STILL", 0.0)
    monkeypatch.setattr(jobs, "FRESH", 0.0)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 4:
            for cell in cells:
                cell.change(state="finished")

    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)  # other threads keep the real one
    monkeypatch.setattr(launcher, "time", clock)
    monkeypatch.setattr(SlurmQueue, "submit", lambda *_: ["7_0", "7_1"])
    with caplog.at_level(logging.WARNING):
        SlurmLauncher(**PARAMS)._work(Sweep(tmp_path, "sweep", [], cells), {0: [], 1: []})
    assert [record.getMessage() for record in caplog.records] == [
        "No run has started for 0 seconds. What the jobs wait for, by squeue: (Nodes required are DOWN), "
        "PartitionTimeLimit. `scancel 7_0 7_1` ends them."
    ]
    queue = SlurmQueue(PARAMS)
    listing.write_text("7_0 PENDING JobArrayTaskLimit\n7_1 RUNNING None\n8 COMPLETED None\n")
    assert queue.active("7_0")
    assert not queue.active("8")
    assert queue.held_up(["7_0", "7_1"]) == ""

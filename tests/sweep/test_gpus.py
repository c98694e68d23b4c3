"""Runs on this machine's GPUs: which there are, and that each run has one that is free."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dit_exp.sweep import jobs, launcher
from dit_exp.sweep.folder import Cell, Sweep
from dit_exp.sweep.gpus import VISIBLE, Leases, listed, present
from dit_exp.sweep.launcher import LocalLauncher

DIVIDED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 2g.10gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-a1b2c3d4-0000-1111-2222-333344445555)
"""


def test_the_gpus_are_those_that_are_visible_or_those_that_the_machine_lists(tmp_path: Path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\ntest "$*" = -L && echo "GPU 0: NVIDIA H200 (UUID: GPU-12ab)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(VISIBLE, raising=False)
    assert present() == ["GPU-12ab"]
    program.write_text("#!/bin/sh\necho no driver; exit 9\n")
    assert present() == []
    for seen, expected in {"3, 5": ["3", "5"], "": [], "-1": [], "GPU-12ab": ["GPU-12ab"]}.items():
        monkeypatch.setenv(VISIBLE, seen)
        assert present() == expected, seen


def test_a_divided_gpu_is_its_parts():
    assert listed(DIVIDED) == [
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
        "GPU-a1b2c3d4-0000-1111-2222-333344445555",
    ]


def test_more_runs_than_gpus_share_them_evenly():
    leases = Leases(["a", "b"])
    for run in range(5):
        leases.take(run)
    assert [leases.of(run) for run in range(5)] == ["a", "b", "a", "b", "a"]
    leases.give_back(1)
    leases.give_back(3)
    leases.take(5)
    leases.take(6)
    assert [leases.of(5), leases.of(6)] == ["b", "b"]
    none = Leases([])
    none.take(0)
    assert none.of(0) is None


LOOKS = {0: 9, 1: 1, 2: 2, 3: 1}
"""How often a run is looked at and still there."""


class Machine(jobs.Queue):
    """Two runs at once."""

    cluster = "local"
    given: dict[int, str | None]

    def __init__(self, params: dict) -> None:
        self.left: dict[str, int] = {}
        self.cells: dict[str, Cell] = {}

    def submit(self, call, arguments: Sequence[tuple]) -> list[str]:
        for _, _, number, *_ in arguments:
            self.given[number] = call.leases.of(number)
            self.left[str(number)] = LOOKS.get(number, 1)
        return [str(number) for _, _, number, *_ in arguments]

    def room(self, running: int) -> int:
        return 2 - running

    def active(self, job: str | None) -> bool:
        if job not in self.left:
            return False
        self.left[job] -= 1
        return self.left[job] >= 0

    def left_behind(self, jobs: str) -> str:
        return ""

    def log(self, job: str) -> str:
        return ""


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 2, 3], {0: "a", 1: "b", 2: "b", 3: "b"}),  # run 0 keeps its GPU to its end
        ([0, 4], {0: "a", 4: "b"}),  # what a second command has left to do
    ],
)
def test_a_run_begins_on_the_gpu_that_is_free(tmp_path: Path, monkeypatch, numbers, expected):
    monkeypatch.setattr(launcher, "POLL", 0.0)
    monkeypatch.setattr(Machine, "given", {}, raising=False)
    monkeypatch.setattr(LocalLauncher, "queue", Machine)
    local = LocalLauncher(at_once=2)
    local.leases = Leases(["a", "b"])
    cells = [Cell(number, [f"seed={number}"], tmp_path / str(number)) for number in numbers]
    local._work(Sweep(tmp_path, "sweep", [], cells), {number: [] for number in numbers})
    assert Machine.given == expected


@pytest.mark.parametrize(
    ("seen", "gpus", "shown"), [(None, ["a"], "a"), (None, [], None), ("", [], ""), ("3", ["3"], "3")]
)
def test_a_process_sees_its_gpu_or_what_the_launching_process_saw(monkeypatch, seen, gpus, shown):
    local = LocalLauncher(at_once=1)
    local.seen, local.leases = seen, Leases(gpus)
    local.leases.take(0)
    monkeypatch.setenv(VISIBLE, "")  # as submitit leaves it
    local._begin(0)
    assert os.environ.get(VISIBLE) == shown

"""trainer.profile leaves a trace and a table of a run, and nothing without it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from dit_exp.trainer.profiling import ACTIVE, SKIPPED, Profile

CPU = torch.device("cpu")


def multiply(run_dir: Path, wanted: bool, steps: int) -> None:
    """Steps of one matrix product each."""
    network, x = nn.Linear(64, 64, bias=False), torch.ones(8, 64)
    with Profile(run_dir, wanted, CPU) as profile:
        for _ in range(steps):
            network(x)
            profile.step()


def test_three_steps_are_in_the_trace_and_their_operations_in_the_table(tmp_path: Path):
    multiply(tmp_path, wanted=True, steps=SKIPPED + ACTIVE + 2)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "aten::linear" for event in events) == ACTIVE
    # Who records shapes holds what has them for longer: another step than the one without a profile.
    assert not any("Input Dims" in event.get("args", {}) for event in events)
    lines = (tmp_path / "profile.txt").read_text().splitlines()
    [products] = [line.split() for line in lines if line.strip().startswith("aten::mm")]
    assert products[-1] == str(ACTIVE)  # its number of calls
    assert not any("ProfilerStep" in line for line in lines)  # which is no operation
    assert lines[-1].startswith("Self CPU time total")


def test_a_run_without_a_profile_or_of_too_few_steps_leaves_nothing(tmp_path: Path, caplog):
    multiply(tmp_path, wanted=False, steps=10)
    for few in (SKIPPED - 1, SKIPPED):
        caplog.clear()
        multiply(tmp_path, wanted=True, steps=few)
        assert "it is of steps 5 to 7" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_among_the_recorded_steps_says_how_many_there_are(tmp_path: Path, caplog):
    caplog.set_level("INFO")
    multiply(tmp_path, wanted=True, steps=SKIPPED + 2)
    assert "The profile of 2 step(s)" in caplog.text
    assert (tmp_path / "profile.txt").exists()

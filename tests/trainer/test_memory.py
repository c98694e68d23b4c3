"""Whose memory is counted: the training's, and no other cell's or drawing's."""

from __future__ import annotations

import pytest
import torch

from dit_exp.trainer.memory import PeakMemory

CPU = torch.device("cpu")
GIB = 2**30


def held(gib: float) -> None:
    """Fills memory and lets go of it."""
    torch.ones(int(gib * GIB), dtype=torch.uint8)


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has trained nothing."""
    monkeypatch.setattr(PeakMemory, "_trained", False)


def test_what_was_held_before_and_what_is_left_out_does_not_count(first):
    held(0.5)
    memory = PeakMemory(CPU)
    before = memory.gib
    assert before is not None
    with memory.left_out():
        held(0.5)
    assert memory.gib == pytest.approx(before, abs=0.1)
    held(0.25)
    assert memory.gib == pytest.approx(before + 0.25, abs=0.1)
    with memory.left_out():
        held(0.5)
    assert memory.gib == pytest.approx(before + 0.25, abs=0.1)


def test_of_a_second_training_in_a_process_it_is_not_known(first):
    assert PeakMemory(CPU).gib is not None
    memory = PeakMemory(CPU)
    with memory.left_out():
        held(0.1)
    assert memory.gib is None


def test_where_the_system_does_not_tell_it_it_is_not_known(first, monkeypatch, tmp_path):
    monkeypatch.setattr("dit_exp.trainer.memory.PROCESS", tmp_path / "none")
    assert PeakMemory(CPU).gib is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, whose peak is counted anew each time")
def test_an_accelerators_peak_is_each_trainings_own():
    device = torch.device("cuda", 0)
    for size in (0.5, 0.25):
        held_before = torch.cuda.memory_allocated(device) / GIB
        memory = PeakMemory(device)
        tensor = torch.ones(int(size * GIB), dtype=torch.uint8, device=device)
        del tensor
        assert memory.gib == pytest.approx(held_before + size, abs=0.01)
        with memory.left_out():
            tensor = torch.ones(GIB, dtype=torch.uint8, device=device)
            del tensor
        assert memory.gib == pytest.approx(held_before + size, abs=0.01)

"""Compiled networks: each shape once, whatever the labels, the times and the weights."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import images, network, randomized
from torch import Tensor, nn

from dit_exp.device import compiled, exact_convolutions, keep_freed_memory, resolve_device
from dit_exp.errors import UserError
from dit_exp.guidance.interval import IntervalGuidance
from dit_exp.objective.v import VelocityPrediction
from dit_exp.process.flow import Flow
from dit_exp.sampler.denoise import Denoise, on_process_time
from dit_exp.sampler.euler import Euler
from dit_exp.timesteps.uniform import Uniform

PROJECT = Path(__file__).parents[1]


class Counted:
    """torch.compile with a backend that runs graphs as they are, and a list of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graphs: list[torch.fx.GraphModule] = []
        self.modes: list[str] = []
        real = torch.compile

        def compile(network: nn.Module, dynamic: bool, mode: str):
            self.modes.append(mode)
            return real(network, dynamic=dynamic, backend=self.backend)

        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", compile)

    def backend(self, graph: torch.fx.GraphModule, _: object):
        self.graphs.append(graph)
        return graph.forward


def test_training_steps_are_compiled_once(monkeypatch: pytest.MonkeyPatch):
    counted, model = Counted(monkeypatch), randomized(network("dit")).train()
    forward = compiled(model, True)
    for step in range(4):
        t, label = torch.full((2,), 100.0 * step), torch.tensor([step, 10])
        forward(images(seed=step), t, label).square().mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 1e-3 * p.grad
        model.zero_grad()
    assert len(counted.graphs) == 1
    assert counted.modes == ["default"]


@pytest.mark.system
def test_sampling_with_a_guidance_interval_compiles_two_batches_and_says_the_same(monkeypatch):
    """A batch for guided steps and one of half its size for the others, however many there are of each."""
    model, objective = randomized(network("dit")), VelocityPrediction(Flow(), Uniform())

    def sample(forward) -> Tensor:
        guidance = IntervalGuidance(model.null_label, scale=2.0, interval=(0.3, 0.7))
        denoise = Denoise(
            on_process_time(forward, objective.process), objective, guidance, torch.tensor([1, 2]), None
        )
        with torch.no_grad():
            return Euler(10)(denoise, images(), objective.process, lambda: torch.zeros(()))

    counted = Counted(monkeypatch)
    plain = sample(model)
    torch.testing.assert_close(sample(compiled(model, "max-autotune")), plain, rtol=1e-4, atol=1e-5)
    assert len(counted.graphs) == 2
    sample(compiled(model, "max-autotune"))  # a second trajectory compiles nothing
    assert len(counted.graphs) == 2
    assert counted.modes == ["max-autotune"] * 2


def test_without_a_mode_the_network_is_handed_back():
    model = nn.Linear(1, 1)
    assert compiled(model, False) is model


def test_a_device_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"device=gpu is no torch device. Pass auto, cpu, cuda or cuda:N."):
        resolve_device("gpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_memory_that_tensors_let_go_of_stays_with_the_process():
    """In a process of its own, since the setting is for good; of a size that is always mapped."""
    program = """
import resource, sys, torch
from dit_exp.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(16):
        torch.zeros(40 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.zeros(2**20)
given_back, kept_at_all = faults(), keep_freed_memory()
faults()  # the heap grows to what is needed
print(given_back, kept_at_all, faults())
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT
    ).stdout.split()
    if said[1] == "False":
        pytest.skip("this C library has no such setting")
    pages = 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    # Each piece anew at first; then that of a few at most, should the system take pages back by itself.
    assert int(said[0]) >= 16 * pages > 4 * int(said[2])


def test_where_the_c_library_cannot_keep_memory_nothing_is_done(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_freed_memory() is False


def test_exact_convolutions_leave_tf32_as_it_was():
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before

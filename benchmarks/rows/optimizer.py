"""A step of AdamW and moving average on DiT-S/4's parameters, against torch's defaults and a loop.

Twice. In a process for each side, as both are by themselves: torch's loop makes and lets go of pieces as
large as each parameter, which the C library gets anew from the system every time. And in one process that
keeps what was let go of, as our trainings do: what is left is the memory that both must pass through. How
near ours comes to the memory's own rate stands in a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.apart import Apart
from benchmarks.paired import Job, Row, Setting, compared, interleaved, shares
from benchmarks.peers import EMA_DECAY, RATE, S4, TINY, Size, ours
from dit_exp.device import keep_freed_memory
from dit_exp.ema import averaged
from dit_exp.nn.count import count_parameters
from dit_exp.optimizer.adamw import adamw

REACH = 5.0
PEER = "AdamW by default, EMA by a loop"
PASSES = 10
"""Of ours over memory: AdamW reads weight, gradient and two moments and writes three of them, the average
reads itself and the weight and writes itself.
"""
SUM, SUM_PASSES = "a sum in place", 3


def filled(size: Size, device: torch.device) -> nn.Module:
    """A model with a gradient for every parameter, the same each time."""
    model = ours(size).to(device)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def our_update(model: nn.Module) -> Job:
    optimizer, average = adamw(model.parameters(), lr=RATE), averaged(model, EMA_DECAY)

    def step() -> None:
        optimizer.step()
        average.update_parameters(model)

    return step


def their_update(model: nn.Module) -> Job:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    average = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def step() -> None:
        optimizer.step()
        for held, new in zip(average, model.parameters(), strict=True):
            held.mul_(EMA_DECAY).add_(new, alpha=1 - EMA_DECAY)

    return step


def memory(numbers: int, device: torch.device) -> Job:
    """Adds an array of float32 numbers to another: reads both, writes one."""
    a, b = torch.zeros(2, numbers, device=device)
    return lambda: a.add_(b)


def ours_apart(size: Size) -> Job:
    keep_freed_memory()
    return our_update(filled(size, torch.device("cpu")))


def theirs_apart(size: Size) -> Job:
    return their_update(filled(size, torch.device("cpu")))


def check_same(mine: nn.Module, other: nn.Module) -> None:
    """Raises AssertionError where weights differ."""
    for a, b in zip(mine.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def rows(setting: Setting) -> Iterator[Row]:
    size = TINY if setting.quick else S4
    mine, other = (filled(size, setting.device) for _ in range(2))
    numbers = count_parameters(mine)
    work = f"AdamW and EMA, {numbers / 1e6:.1f} M parameters"
    jobs = {"ours": our_update(mine), PEER: their_update(other), SUM: memory(numbers, setting.device)}
    for side in ("ours", PEER):
        jobs[side]()
    check_same(mine, other)
    if setting.device.type == "cpu":
        with Apart(ours_apart, size) as ours_there, Apart(theirs_apart, size) as theirs_there:
            times = interleaved({"ours": ours_there, PEER: theirs_there}, setting)
        yield compared(times, "ours", PEER, "optimizer", f"{work}, a process each", REACH)
    times = interleaved(jobs, setting)
    check_same(mine, other)  # after all steps too
    yield compared(times, "ours", PEER, "optimizer", f"{work}, freed memory kept", REACH)
    value = shares(times["ours"], PASSES * numbers, times[SUM], SUM_PASSES * numbers)
    yield Row(
        "optimizer: share of the memory's rate", work, f"{SUM} of as many numbers", None, None, value,
        figure="{:.0%}",
    )  # fmt: skip

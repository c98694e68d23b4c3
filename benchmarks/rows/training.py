"""Forward pass and training step of DiT-S/4 against diffusers' DiT, and the share of the machine's peak.

On a CPU the peer has a process of its own, so that both compile at once. Measured is by turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.apart import Apart, Here, beside
from benchmarks.paired import (
    PRECISIONS,
    Job,
    Row,
    Setting,
    begin,
    compared,
    done,
    interleaved,
    matmul,
    shares,
)
from benchmarks.peers import (
    CLASSES,
    MODES,
    S4,
    TINY,
    Size,
    batch_of,
    operations,
    our_step,
    ours,
    their_step,
    theirs,
)
from dit_exp.device import compiled
from dit_exp.model.dit import DiT
from dit_exp.trainer.loop import autocast

FORWARD, STEP, ANSWER, PLAIN = "forward", "train step", "answer", "eager fp32"
REACH = {"eager fp32": 1.05, "compiled fp32": 1.05, "eager bf16": 1.05, "compiled bf16": 1.15}
OVER_DEFAULT, SHARE = 1.8, {"fp32": 0.88, "bf16": 0.70}


def forward_of(network: nn.Module, call: Callable[..., Tensor], mode: str, device: torch.device) -> Job:
    precision, compile = MODES[mode]
    fast = compiled(network, compile)

    def job() -> Tensor:
        with torch.no_grad(), autocast(device, precision):
            return call(fast)

    return job


def inputs(size: Size, images: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy images, time indices and labels."""
    x = torch.randn(images, *size.shape, generator=torch.Generator().manual_seed(1)).to(device)
    return x, torch.full((images,), 500, device=device), torch.arange(images, device=device) % CLASSES


def our_jobs(model: DiT, size: Size, images: int, device: torch.device) -> dict[str, dict[str, Job]]:
    """What is compared, by name and mode."""
    x, t, label = inputs(size, images, device)
    time = t.float()  # what samplers say, whose compiled code is found again
    batch = batch_of(size, 2 * images, device)
    return {
        FORWARD: {m: forward_of(model, lambda net: net(x, time, label), m, device) for m in MODES},
        STEP: {mode: our_step(model, *how, batch, device) for mode, how in MODES.items()},
    }


def their_jobs(size: Size, images: int, device: torch.device) -> Callable[..., Any]:
    """The same of diffusers: a job that is told name and mode, or none for all modes, or ANSWER for that of a
    forward pass in float32.
    """
    begin(device)
    peer = theirs(ours(size), size).to(device).eval()
    x, t, label = inputs(size, images, device)
    batch = batch_of(size, 2 * images, device)

    def call(network: Callable[..., Any]) -> Tensor:
        return network(x, timestep=t, class_labels=label).sample

    jobs = {
        FORWARD: {mode: forward_of(peer, call, mode, device) for mode in MODES},
        STEP: {mode: their_step(peer, *how, batch, device) for mode, how in MODES.items()},
    }

    def job(name: str, *modes: str) -> Any:
        if name == ANSWER:
            return jobs[FORWARD][PLAIN]().cpu().numpy()
        for mode in modes or MODES:
            jobs[name][mode]()
        done(device)
        return None

    return job


def rows(setting: Setting) -> Iterator[Row]:
    size: Size = TINY if setting.quick else S4
    images, device = setting.size(16, 2), setting.device
    model = ours(size).to(device).eval()
    work = operations(model, size, images)
    mine = our_jobs(model, size, images, device)
    with beside(device, their_jobs, size, images, device) as other:
        expected = torch.from_numpy(other(ANSWER))
        torch.testing.assert_close(mine[FORWARD][PLAIN]().cpu(), expected, rtol=1e-5, atol=1e-5)
        yield from _compared(FORWARD, mine[FORWARD], other, work, f"{images} images", setting)
        # Twice as many images, and backward passes cost twice the forward one.
        yield from _compared(STEP, mine[STEP], other, 2 * 3 * work, f"{2 * images} images", setting)


def _compared(
    name: str, mine: dict[str, Job], other: Apart | Here, count: float, work: str, setting: Setting
) -> Iterator[Row]:
    other.ask(name)  # and so compiles its own while ours are compiled here
    for job in mine.values():
        job()
    other.answer()
    jobs: dict[str, Job] = {}
    for mode, job in mine.items():
        jobs[f"ours {mode}"], jobs[f"diffusers {mode}"] = job, partial(other, name, mode)
    side = setting.size(8192 if setting.device.type == "cuda" else 2048, 128)
    products = {precision: matmul(precision, setting.device, side) for precision in PRECISIONS}
    times = interleaved(jobs | {f"peak {p}": job for p, (job, _) in products.items()}, setting)

    def share(job: str, precision: str):
        return shares(times[job], count, times[f"peak {precision}"], products[precision][1])

    for mode, (precision, _) in MODES.items():
        part, peers = (share(f"{who} {mode}", precision).middle for who in ("ours", "diffusers"))
        peer = f"diffusers {mode} ({100 * peers:.0f} % of peak)"
        times[peer] = times[f"diffusers {mode}"]
        yield compared(times, f"ours {mode}", peer, name, f"{work}, {mode}", REACH[mode], part)
    default = f"diffusers {PLAIN}"
    yield compared(times, "ours compiled bf16", default, name, f"{work}, compiled bf16", OVER_DEFAULT)
    for precision, reach in SHARE.items():
        value = share(f"ours compiled {precision}", precision)
        yield Row(
            f"{name}: share of peak", f"compiled {precision}", f"matrix product of {side}",
            None, None, value, reach, figure="{:.1%}",
        )  # fmt: skip

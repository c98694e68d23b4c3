"""Forward pass and training step of DiT-S/4 against diffusers' DiT, and the share of the machine's peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.paired import PRECISIONS, Job, Row, Setting, compared, interleaved, matmul, shares
from benchmarks.peers import (
    CLASSES,
    MODES,
    S4,
    TINY,
    Size,
    batch_of,
    check_same,
    operations,
    our_step,
    ours,
    their_step,
    theirs,
)
from dit_exp.device import compiled
from dit_exp.trainer.loop import autocast

REACH = {"eager fp32": 1.05, "compiled fp32": 1.05, "eager bf16": 1.05, "compiled bf16": 1.15}
OVER_DEFAULT, SHARE = 1.8, {"fp32": 0.88, "bf16": 0.70}


def forward_of(network: nn.Module, call: Callable[..., Tensor], mode: str, device: torch.device) -> Job:
    precision, compile = MODES[mode]
    fast = compiled(network, compile)

    def job() -> Tensor:
        with torch.no_grad(), autocast(device, precision):
            return call(fast)

    return job


def rows(setting: Setting) -> Iterator[Row]:
    size: Size = TINY if setting.quick else S4
    images, device = setting.size(16, 2), setting.device
    batch = batch_of(size, 2 * images, device)
    model = ours(size).to(device).eval()
    peer = theirs(model, size).to(device).eval()
    check_same(model, peer, size, device)
    x, t = torch.randn(images, *size.shape, device=device), torch.full((images,), 500, device=device)
    time = t.float()  # what samplers say, whose compiled code is found again
    label = torch.arange(images, device=device) % CLASSES

    def forward(mode: str) -> tuple[Job, Job]:
        return (
            forward_of(model, lambda net: net(x, time, label), mode, device),
            forward_of(peer, lambda net: net(x, timestep=t, class_labels=label).sample, mode, device),
        )

    def step(mode: str) -> tuple[Job, Job]:
        precision, compile = MODES[mode]
        return (
            our_step(model, precision, compile, batch, device),
            their_step(peer, precision, compile, batch, device),
        )

    work = operations(model, size, images)
    yield from _compared("forward", forward, work, f"{images} images", setting)
    # Twice as many images, and backward passes cost twice the forward one.
    yield from _compared("train step", step, 2 * 3 * work, f"{2 * images} images", setting)


def _compared(
    name: str, jobs_of: Callable[[str], tuple[Job, Job]], count: float, work: str, setting: Setting
) -> Iterator[Row]:
    jobs: dict[str, Job] = {}
    for mode in MODES:
        jobs[f"ours {mode}"], jobs[f"diffusers {mode}"] = jobs_of(mode)
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
    default = "diffusers eager fp32"
    yield compared(times, "ours compiled bf16", default, name, f"{work}, compiled bf16", OVER_DEFAULT)
    for precision, reach in SHARE.items():
        value = share(f"ours compiled {precision}", precision)
        yield Row(
            f"{name}: share of peak", f"compiled {precision}", f"matrix product of {side}",
            None, None, value, reach, figure="{:.1%}",
        )  # fmt: skip

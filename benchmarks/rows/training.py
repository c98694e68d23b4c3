"""Forward pass and training step of DiT-S/4 against diffusers' DiT, and the share of the machine's peak.

The peak is the fastest product of two square matrices that was found here: torch's, or on a CPU that of
oneDNN whose right matrix is laid out before. The share of torch's own has rows beside it. On a CPU the peer
has a process of its own, so that both compile at once. Measured is by turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.apart import Apart, Here, beside
from benchmarks.paired import (
    PRECISIONS,
    Job,
    Quartiles,
    Row,
    Setting,
    begin,
    compared,
    done,
    fastest,
    interleaved,
    laid_out_matmul,
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
    their_names,
    their_step,
    theirs,
)
from dit_exp.device import compiled
from dit_exp.model.dit import DiT
from dit_exp.trainer.loop import autocast

FORWARD, STEP, ANSWER, GRADIENTS, PLAIN = "forward", "train step", "answer", "gradients", "eager fp32"
REACH = {"eager fp32": 1.05, "compiled fp32": 1.05, "eager bf16": 1.05, "compiled bf16": 1.15}
OVER_DEFAULT, SHARE = 1.8, {"fp32": 0.88, "bf16": 0.70}
APART = {"fp32": 1e-5, "bf16": 2e-2}
"""How far an answer may be from that of eager float32, as a share of its norm."""


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


def gradients_of(network: nn.Module, call: Callable[..., Tensor], x: Tensor) -> dict[str, Tensor]:
    """Of the mean squared error to the images themselves, in float32 and without dropout, by weight."""
    nn.functional.mse_loss(call(network.eval()), x).backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


def their_jobs(size: Size, images: int, device: torch.device) -> Callable[..., Any]:
    """The same of diffusers: a job that is told a name and modes, or no mode for all of them; for ANSWER and
    GRADIENTS it gives what there is to compare, as arrays.
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
        if name == GRADIENTS:
            return {key: value.cpu().numpy() for key, value in gradients_of(peer, call, x).items()}
        if name == ANSWER:
            return {mode: jobs[FORWARD][mode]().float().cpu().numpy() for mode in modes or MODES}
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
        _compiled(ANSWER, mine[FORWARD], other)
        check_answers({mode: job() for mode, job in mine[FORWARD].items()}, other(ANSWER))
        check_gradients(model, other(GRADIENTS), size, images)
        yield from _compared(FORWARD, mine[FORWARD], other, work, f"{images} images", setting)
        _compiled(STEP, mine[STEP], other)
        # Twice as many images, and backward passes cost twice the forward one.
        yield from _compared(STEP, mine[STEP], other, 2 * 3 * work, f"{2 * images} images", setting)


def check_gradients(model: nn.Module, expected: dict[str, np.ndarray], size: Size, images: int) -> None:
    """Raises AssertionError where a weight that both have has another gradient, by 1e-4 of its norm."""
    x, t, label = inputs(size, images, next(model.parameters()).device)
    found = their_names(gradients_of(model, lambda net: net(x, t.float(), label), x), size)
    # Time and label are embedded once here and in each block there. What is added to all keys alike changes
    # no softmax, so that gradient is rounding and nothing else.
    for name, value in found.items():
        if ".emb." not in name and not name.endswith("to_k.bias"):
            _assert_near(value, expected[name], 1e-4, f"The gradient of {name}")


def check_answers(mine: dict[str, Tensor], theirs: dict[str, np.ndarray]) -> None:
    """Raises AssertionError unless all modes of both sides say what ours does in eager float32."""
    torch.testing.assert_close(mine[PLAIN].cpu(), torch.from_numpy(theirs[PLAIN]), rtol=1e-5, atol=1e-5)
    plain = mine[PLAIN].cpu().numpy()
    for mode, (precision, _) in MODES.items():
        _assert_near(mine[mode], plain, APART[precision], f"Our answer in {mode}")
        _assert_near(torch.from_numpy(theirs[mode]), plain, APART[precision], f"diffusers' in {mode}")


def _assert_near(value: Tensor, expected: np.ndarray, bound: float, what: str) -> None:
    apart = np.linalg.norm(value.float().cpu().numpy() - expected) / np.linalg.norm(expected)
    assert apart <= bound, f"{what} is {apart:.1e} of its norm away, more than {bound:.0e}."


def _compiled(name: str, mine: dict[str, Job], other: Apart | Here) -> None:
    """Runs all modes of both sides once, which compiles both at once on a CPU."""
    other.ask(name)
    for job in mine.values():
        job()
    other.answer()


def _compared(
    name: str, mine: dict[str, Job], other: Apart | Here, count: float, work: str, setting: Setting
) -> Iterator[Row]:
    jobs: dict[str, Job] = {}
    for mode, job in mine.items():
        jobs[f"ours {mode}"], jobs[f"diffusers {mode}"] = job, partial(other, name, mode)
    side = setting.size(8192 if setting.device.type == "cuda" else 2048, 128)
    products, square = {}, 2 * side**3
    for precision in PRECISIONS:
        products[f"torch {precision}"] = matmul(precision, setting.device, side)
        laid_out = laid_out_matmul(precision, setting.device, side)
        if laid_out is not None:
            products[f"oneDNN {precision}"] = laid_out
    times = interleaved(jobs | products, setting)
    for precision in PRECISIONS:
        made = [taken for key, taken in times.items() if key in products and key.endswith(precision)]
        times[f"peak {precision}"] = fastest(made)

    def share(job: str, peak: str) -> Quartiles:
        return shares(times[job], count, times[peak], square)

    for mode, (precision, _) in MODES.items():
        part, peers = (share(f"{who} {mode}", f"peak {precision}").middle for who in ("ours", "diffusers"))
        peer = f"diffusers {mode} ({100 * peers:.0f} % of peak)"
        times[peer] = times[f"diffusers {mode}"]
        yield compared(times, f"ours {mode}", peer, name, f"{work}, {mode}", REACH[mode], part)
    default = f"diffusers {PLAIN}"
    yield compared(times, "ours compiled bf16", default, name, f"{work}, compiled bf16", OVER_DEFAULT)
    yardsticks = {
        "peak": f"the fastest matrix product of {side}",
        "torch": f"torch's matrix product of {side}",
    }
    for precision, reach in SHARE.items():
        for peak, against in yardsticks.items():
            value = share(f"ours compiled {precision}", f"{peak} {precision}")
            yield Row(
                f"{name}: share of peak", f"compiled {precision}", against,
                None, None, value, reach, figure="{:.1%}",
            )  # fmt: skip

"""Sampling steps with guidance on DiT-S/4, against the loop of diffusers' DiTPipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.apart import beside
from benchmarks.paired import Job, Row, Setting, begin, compared, done, interleaved
from benchmarks.peers import CLASSES, MODES, S4, TINY, Size, check_same, ours, theirs
from dit_exp.device import compiled
from dit_exp.guidance.cfg import ClassifierFreeGuidance
from dit_exp.guidance.interval import IntervalGuidance
from dit_exp.nn.narrow import drawing
from dit_exp.objective.eps import NoisePrediction
from dit_exp.process.linear import Linear
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.denoise import Denoise, on_process_time
from dit_exp.timesteps.uniform import Uniform
from dit_exp.trainer.loop import autocast
from dit_exp.types.diffusion import Guidance

STEPS, SCALE = 4, 4.0
OVER_DEFAULT, LIKE_FOR_LIKE = 2.8, 1.3
TIMES = [0.751, 0.501, 0.251, 0.001, 0.0]
"""What diffusers' DDIM walks for four steps: indices 750, 500, 250, 0, and then the data."""

HALF = (0.2, 0.6)
"""Holds two of the four times, so guidance costs on half of the steps."""

FAST = "compiled bf16, interval"


def our_walk(model: nn.Module, x: Tensor, guidance: Guidance, precision: str, compile: bool) -> Job:
    """Four steps of ddim, as `task.generate` takes them."""
    device = x.device
    process = Linear().to(device)
    objective = NoisePrediction(process, Uniform())
    label = torch.arange(len(x), device=device) % CLASSES
    network = on_process_time(compiled(drawing(model, precision, device), compile), process)
    times = torch.tensor(TIMES, dtype=torch.float64)

    def job() -> Tensor:
        denoise = Denoise(network, objective, guidance, label, bounds=None)
        with torch.no_grad(), autocast(device, precision):
            return DDIM(STEPS)(denoise, x, process, lambda: torch.zeros_like(x), times)

    return job


def their_walk(peer: nn.Module, x: Tensor, precision: str, compile: bool) -> Job:
    """What DiTPipeline does between its noise and its decoder, for the same times.

    In bf16 the weights are bf16, as `pipe.to(torch.bfloat16)` makes them.
    """
    from diffusers import DDIMScheduler

    device, dtype = x.device, {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = compiled(peer.to(dtype), compile)
    scheduler = DDIMScheduler(1000, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(STEPS, device=device)
    classes = torch.arange(len(x), device=device) % CLASSES
    labels = torch.cat([classes, torch.full_like(classes, CLASSES)])

    def job() -> Tensor:
        latents = torch.cat([x, x]).to(dtype)
        with torch.no_grad():
            for time in scheduler.timesteps.tolist():
                half = latents[: len(x)]
                both = torch.cat([half, half])
                t = torch.full((len(both),), time, device=device)
                said = network(both, timestep=t, class_labels=labels).sample
                labelled, null = said.chunk(2)
                guided = null + SCALE * (labelled - null)
                latents = scheduler.step(torch.cat([guided, guided]), time, latents).prev_sample
        return latents[: len(x)]

    return job


def their_walks(size: Size, x: Tensor, device: torch.device) -> Callable[..., Any]:
    """A job that is told a mode and gives where its four steps end, or none and takes them in all modes."""
    begin(device)
    jobs = {mode: their_walk(theirs(ours(size), size).to(device).eval(), x, *MODES[mode]) for mode in MODES}

    def job(*modes: str) -> Any:
        ends = [jobs[mode]() for mode in modes or MODES]
        done(device)
        return ends[0].float().cpu().numpy()

    return job


def rows(setting: Setting) -> Iterator[Row]:
    size: Size = TINY if setting.quick else S4
    device, images = setting.device, setting.size(8, 2)
    model = ours(size).to(device).eval()
    check_same(model, theirs(model, size).to(device).eval(), size, device)
    x = torch.randn(images, *size.shape, generator=torch.Generator().manual_seed(0)).to(device)
    always = ClassifierFreeGuidance(model.null_label, SCALE)
    half = IntervalGuidance(model.null_label, SCALE, HALF)
    mine: dict[str, Job] = {mode: our_walk(model, x, always, *how) for mode, how in MODES.items()}
    mine[FAST] = our_walk(model, x, half, "bf16", True)
    with beside(device, their_walks, size, x, device) as other:
        other.ask()  # and so compiles its own while ours are compiled here
        for job in mine.values():
            job()
        other.answer()
        # Solver errors of float32 grow by 1 / alpha on the way, hence a tolerance of 1e-4.
        plain = mine["eager fp32"]().cpu()
        torch.testing.assert_close(plain, torch.from_numpy(other("eager fp32")), rtol=1e-4, atol=1e-4)
        peers: dict[str, Job] = {f"diffusers {mode}": partial(other, mode) for mode in MODES}
        times = interleaved(peers | {f"ours {mode}": job for mode, job in mine.items()}, setting)
    work = f"{STEPS} guided steps of {images} images"
    for mode, peer, reach in (
        *((mode, mode, None) for mode in MODES),
        (FAST, "compiled bf16", LIKE_FOR_LIKE),
        (FAST, "eager fp32", OVER_DEFAULT),
    ):
        yield compared(times, f"ours {mode}", f"diffusers {peer}", "sampling step", f"{work}, {mode}", reach)

"""The log density that the probability-flow ODE gives to images.

On the straight path of path.py, dy/dtau = u(y) carries an image to noise, and along it d log p(y) / dtau =
-div u. Every process becomes the same ODE there, also EDM's, with no slope that is infinite at the data, and
a network is asked at times of its own process alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dit_exp.sampler.path import Path
from dit_exp.sampler.walk import Stop, at, stops
from dit_exp.types.diffusion import Denoiser, Process


def log_likelihood(
    denoise: Denoiser, x0: Tensor, process: Process, times: Tensor, probes: Sequence[Tensor]
) -> Tensor:
    """log p(x_0) in nats, float64 (B,), for images x_0 (B, C, h, w).

    times   float64 (n + 1,), falling from 1 to a hair above 0; n steps of Heun's method from last to first
    probes  tensors like x_0 with independent entries of mean 0 and variance 1: div u is taken as the mean of
            v . (du/dx) v over them (Hutchinson 1989), which is unbiased
    The ODE ends in the prior N(0, sigma(1)^2) and starts at x = alpha x_0. So p is the density of what it
    makes of the prior down to there, divided by alpha: a density like any other, and that of the data but for
    noise of sigma / alpha. Each step takes 2 evaluations with a gradient. Source: Song et al. 2021,
    arXiv:2011.13456, section 4.3. Raises ValueError for times that end at 0, where noise has no meaning.
    """
    way = stops(process, times.flip(0))
    first, last = way[0], way[-1]
    if not first.sigma:
        raise ValueError("The ODE of the likelihood must start above t=0.")
    dimensions = x0[0].numel()
    x = first.alpha * x0
    log_p = torch.full((len(x),), dimensions * math.log(first.alpha), dtype=torch.float64, device=x.device)
    for now, noisier in pairwise(way):
        path = Path(now, noisier, bend=1.0)
        velocity, spread = field(denoise, x, now, path, probes)
        guess = path.move(x, velocity)
        velocity_there, spread_there = field(denoise, guess, noisier, path, probes)
        x = path.move(x, (velocity + velocity_there) / 2)
        log_p += path.length * (spread + spread_there) / 2
        log_p += dimensions * math.log(path.scale(noisier) / path.scale(now))
    prior = x.double().square().flatten(1).sum(1) / last.sigma**2 + dimensions * math.log(
        2 * math.pi * last.sigma**2
    )
    return log_p - prior / 2


def field(
    denoise: Denoiser, x: Tensor, stop: Stop, path: Path, probes: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """u at x, shaped like it, and the estimate of div u over y, float64 (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = path.velocity(denoise(x, at(stop, x)))
        divergence = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for left, probe in enumerate(probes, 1 - len(probes)):
            [row] = torch.autograd.grad(velocity, x, probe, retain_graph=left < 0)
            divergence += (row * probe).double().flatten(1).sum(1)
    return velocity.detach(), path.scale(stop) / len(probes) * divergence

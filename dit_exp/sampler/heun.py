"""Heun's method for the probability-flow ODE, with EDM's stochastic churn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from dit_exp.sampler.path import Path
from dit_exp.sampler.walk import Sampler, Stop, at, stops
from dit_exp.types.diffusion import Denoiser, DrawNoise, Process


class Heun(Sampler):
    """Euler's step, then again with the mean of the velocities at its two ends; the last step is Euler's.

    2 steps - 1 evaluations. Before a step whose sigma / alpha lies in `churn_interval`, fresh noise raises it
    by a factor 1 + min(churn / steps, sqrt(2) - 1), which makes the sampler stochastic; churn=0 is the ODE.
    churn_noise  deviation of that noise, a little above 1 where it costs detail
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2. Where alpha stays 1 this is that algorithm; in
    the other processes the path is straightened first, as path.py says.
    """

    def __init__(
        self,
        steps: int = 18,
        churn: float = 0.0,
        churn_interval: tuple[float, float] = (0.05, 50.0),
        churn_noise: float = 1.003,
        clip: bool = False,
    ) -> None:
        super().__init__(steps, clip)
        if churn < 0 or churn_noise < 0:
            raise ValueError(
                f"sampler.churn={churn} and sampler.churn_noise={churn_noise} must be 0 or more."
            )
        if not 0 <= churn_interval[0] <= churn_interval[1]:
            raise ValueError(f"sampler.churn_interval={list(churn_interval)} must be [low, high], from 0.")
        self.churn, self.churn_interval, self.churn_noise = churn, churn_interval, churn_noise

    @property
    def evaluations(self) -> int:
        return 2 * self.steps - 1

    def walk(
        self, denoise: Denoiser, x: Tensor, way: list[Stop], process: Process, draw: DrawNoise
    ) -> Iterator[tuple[Tensor, Tensor]]:
        factor = 1 + min(self.churn / (len(way) - 1), math.sqrt(2) - 1)
        low, high = self.churn_interval
        for now, following in pairwise(way):
            if factor > 1 and low <= now.ratio <= high:
                x, now = self.renoise(x, now, now.ratio * factor, process, draw)
            said = denoise(x, at(now, x))
            path = Path(now, following)
            velocity = path.velocity(said)
            guess = path.move(x, velocity)
            if following.sigma:
                said = denoise(guess, at(following, x))
                guess = path.move(x, (velocity + path.velocity(said)) / 2)
            x = guess
            yield x, said.x0

    def renoise(
        self, x: Tensor, now: Stop, ratio: float, process: Process, draw: DrawNoise
    ) -> tuple[Tensor, Stop]:
        """x with the noise of a later time: as near to sigma / alpha = ratio as the process comes."""
        [noisier] = stops(process, process.time_at(torch.tensor([ratio], dtype=torch.float64)))
        shrink = noisier.alpha / now.alpha
        added = noisier.sigma**2 - (shrink * now.sigma) ** 2
        if added <= 0:
            return x, now
        return shrink * x + self.churn_noise * math.sqrt(added) * draw(), noisier

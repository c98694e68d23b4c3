"""Euler's method for the probability-flow ODE."""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.walk import Walk
from dit_exp.types import Denoised, DrawNoise, Process


class Euler(Walk):
    """x_s = x_t + (s - t) dx/dt, with dx/dt = alpha' x0 + sigma' noise. Needs a continuous process."""

    needs_continuous = True

    def __init__(self, steps: int = 50, clip: bool = False) -> None:
        super().__init__(steps, clip)

    def step(
        self, x: Tensor, said: Denoised, now: Tensor, following: Tensor, process: Process, draw: DrawNoise
    ) -> Tensor:
        a, b = process.rates(now)
        velocity = a.to(x.dtype) * said.x0 + b.to(x.dtype) * said.noise
        return x + (following - now).to(x.dtype) * velocity

"""Euler-Maruyama for the reverse SDE."""

from __future__ import annotations

import math

from torch import Tensor

from dit_exp.sampler.walk import Stop, Walk
from dit_exp.types.diffusion import Denoised, DrawNoise


class ReverseSDE(Walk):
    """dx = (v - w / 2 score) dt + sqrt(w) dW, run backward.

    v = alpha' x0 + sigma' noise is the ODE's velocity, score = -noise / sigma. w is the variance of the fresh
    noise in a unit of time, and half of it goes into the drift. w = 2 strength sigma sigma', so time may be
    measured in any way. On the straight path strength=1 is w = 2 t: SiT writes that as a diffusion of t with
    twice its variance, others as one of 2 t. strength=0 is Euler's ODE. Only where alpha stays 1 is w at
    strength=1 the forward process's own, which `DDPM` has with the large variance: on the VP SDE w is beta
    alpha^2, next to nothing at the noise. Derivatives are taken as the process's increments. The step to
    sigma=0 adds no noise and ends in the predicted image.
    Source: Song et al. 2021, arXiv:2011.13456; the choice of w, Ma et al. 2024, arXiv:2401.08740.
    """

    def __init__(self, steps: int = 250, strength: float = 1.0, clip: bool = False) -> None:
        super().__init__(steps, clip)
        if strength < 0:
            raise ValueError(f"sampler.strength={strength} must be 0 or more.")
        self.strength = strength

    def step(self, x: Tensor, said: Denoised, now: Stop, following: Stop, draw: DrawNoise) -> Tensor:
        if not following.sigma:
            return following.alpha * said.x0
        noise = now.sigma + (1 + self.strength) * (following.sigma - now.sigma)
        x = following.alpha * said.x0 + noise * said.noise
        added = self.strength * (now.sigma**2 - following.sigma**2)
        return x + math.sqrt(added) * draw() if added else x

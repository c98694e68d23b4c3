"""Implicit sampling: the same marginals as DDPM, with as much fresh noise as asked for."""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.walk import Walk
from dit_exp.types import Denoised, DrawNoise, Process


class DDIM(Walk):
    """x_s = alpha_s x0 + sqrt(sigma_s^2 - f^2) noise + f fresh, with f = eta times DDPM's deviation.

    eta  0 is deterministic, 1 is DDPM with its small variance. On the straight path eta=0 is Euler's step.
    Source: Song et al. 2020, arXiv:2010.02502.
    """

    def __init__(self, steps: int = 50, eta: float = 0.0, clip: bool = True) -> None:
        super().__init__(steps, clip)
        if not 0 <= eta <= 1:
            raise ValueError(f"sampler.eta={eta} must lie in [0, 1].")
        self.eta = eta

    def step(
        self, x: Tensor, said: Denoised, now: Tensor, following: Tensor, process: Process, draw: DrawNoise
    ) -> Tensor:
        a_t, s_t = process.coefficients(now)
        a_s, s_s = process.coefficients(following)
        fresh = self.eta * s_s * (s_t**2 - (a_t / a_s * s_s) ** 2).sqrt() / s_t
        kept = (s_s**2 - fresh**2).clamp(min=0).sqrt()
        x = a_s.to(x.dtype) * said.x0 + kept.to(x.dtype) * said.noise
        return x + fresh.to(x.dtype) * draw() if fresh > 0 else x

"""Implicit sampling: the same marginals as DDPM, with as much fresh noise as asked for."""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.walk import Stop, Walk
from dit_exp.types.diffusion import Denoised, DrawNoise


class DDIM(Walk):
    """x_s = alpha_s x0 + sqrt(sigma_s^2 - f^2) noise + f fresh, with f = eta times DDPM's deviation.

    eta  0 is deterministic, 1 is DDPM with its small variance. eta=0 is Euler's step on every path.
    Source: Song et al. 2020, arXiv:2010.02502.
    """

    def __init__(self, steps: int = 50, eta: float = 0.0, clip: bool = True) -> None:
        super().__init__(steps, clip)
        if not 0 <= eta <= 1:
            raise ValueError(f"sampler.eta={eta} must lie in [0, 1].")
        self.eta = eta

    def step(self, x: Tensor, said: Denoised, now: Stop, following: Stop, draw: DrawNoise) -> Tensor:
        carried = now.alpha / following.alpha * following.sigma
        fresh = self.eta * following.sigma * max(now.sigma**2 - carried**2, 0) ** 0.5 / now.sigma
        kept = max(following.sigma**2 - fresh**2, 0) ** 0.5
        x = following.alpha * said.x0 + kept * said.noise
        return x + fresh * draw() if fresh else x

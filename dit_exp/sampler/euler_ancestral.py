"""Euler's method, a little too far down, and noise back up."""

from __future__ import annotations

from dit_exp.sampler.ddim import DDIM


class EulerAncestral(DDIM):
    """Euler's step down to sigma_down, then fresh noise of deviation sigma_up up to the next time.

    With sigma_up = eta times the deviation of DDPM's posterior, sigma_down^2 + sigma_up^2 = sigma^2, this is
    DDIM's family, and eta=1 is DDPM with its small variance. Source: Song et al. 2020, arXiv:2010.02502.
    """

    def __init__(self, steps: int = 50, eta: float = 1.0, clip: bool = False) -> None:
        super().__init__(steps, eta, clip)

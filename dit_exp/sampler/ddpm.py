"""Ancestral sampling: each step draws from the posterior of the forward process."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from dit_exp.sampler.walk import Stop, Walk
from dit_exp.types.diffusion import Denoised, DrawNoise


class DDPM(Walk):
    """x_s ~ N(posterior mean of x_s given x_t and x0, variance); no noise in the last step.

    variance  "small" is the posterior's own, "large" is beta; a learned variance overrules both
    Written for any Gaussian process through alpha and sigma alone. With the large variance a step is, to
    first order in its length, Euler-Maruyama's for the process's own reverse SDE, whose noise on VP is
    beta dt.
    Source: Ho et al. 2020, arXiv:2006.11239; the SDE, Song et al. 2021, arXiv:2011.13456.
    """

    def __init__(
        self, steps: int = 250, variance: Literal["small", "large"] = "small", clip: bool = True
    ) -> None:
        super().__init__(steps, clip)
        self.variance = variance

    def step(self, x: Tensor, said: Denoised, now: Stop, following: Stop, draw: DrawNoise) -> Tensor:
        # The step from s to t multiplies by `ratio` and adds noise of variance `large`.
        ratio = now.alpha / following.alpha
        large = now.sigma**2 - (ratio * following.sigma) ** 2
        mean = (
            ratio * following.sigma**2 / now.sigma**2 * x + following.alpha * large / now.sigma**2 * said.x0
        )
        if not following.sigma:
            return mean
        small = following.sigma**2 * large / now.sigma**2
        if said.variance is not None:
            log_variance = said.variance * math.log(large) + (1 - said.variance) * math.log(small)
            return mean + (0.5 * log_variance).exp() * draw()
        return mean + math.sqrt(large if self.variance == "large" else small) * draw()

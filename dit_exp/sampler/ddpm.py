"""Ancestral sampling: each step draws from the posterior of the forward process."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dit_exp.sampler.walk import Walk
from dit_exp.types import Denoised, DrawNoise, Process


class DDPM(Walk):
    """x_s ~ N(posterior mean of x_s given x_t and x0, variance); no noise in the last step.

    variance  "small" is the posterior's own, "large" is beta; a learned variance overrules both
    Written for any Gaussian process through alpha and sigma alone. Source: Ho et al. 2020, arXiv:2006.11239.
    """

    def __init__(
        self, steps: int = 250, variance: Literal["small", "large"] = "small", clip: bool = True
    ) -> None:
        super().__init__(steps, clip)
        self.variance = variance

    def step(
        self, x: Tensor, said: Denoised, now: Tensor, following: Tensor, process: Process, draw: DrawNoise
    ) -> Tensor:
        a_t, s_t = process.coefficients(now)
        a_s, s_s = process.coefficients(following)
        # The step from s to t multiplies by `ratio` and adds noise of variance `large`.
        ratio = a_t / a_s
        large = s_t**2 - (ratio * s_s) ** 2
        mean = (ratio * s_s**2 / s_t**2).to(x.dtype) * x + (a_s * large / s_t**2).to(x.dtype) * said.x0
        if following == 0:
            return mean
        small = s_s**2 * large / s_t**2
        if said.variance is not None:
            log_small, log_large = small.log().to(x.dtype), large.log().to(x.dtype)
            deviation = (0.5 * (said.variance * log_large + (1 - said.variance) * log_small)).exp()
        else:
            deviation = (large if self.variance == "large" else small).sqrt().to(x.dtype)
        return mean + deviation * draw()

"""The variance-preserving stochastic differential equation."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.process.sde import LinearRate


class VP(LinearRate):
    """alpha = exp(-B / 2), sigma^2 = 1 - exp(-B): the limit of DDPM's linear betas for endless steps.

    Source: Song et al. 2021, arXiv:2011.13456.
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        integral = self.integral(t)
        return (-integral / 2).exp(), (-torch.expm1(-integral)).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.coefficients(t)
        return -self.beta(t) * alpha / 2, self.beta(t) * alpha**2 / (2 * sigma)

    def time_at(self, ratio: Tensor) -> Tensor:
        return self.time_of(torch.log1p(ratio**2))

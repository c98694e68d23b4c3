"""The stochastic differential equation whose variance stays below the variance-preserving one."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.process.sde import LinearRate


class SubVP(LinearRate):
    """alpha = exp(-B / 2), sigma = 1 - exp(-B), so sigma starts in proportion to t and not to its root.

    Source: Song et al. 2021, arXiv:2011.13456.
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        integral = self.integral(t)
        return (-integral / 2).exp(), -torch.expm1(-integral)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, _ = self.coefficients(t)
        return -self.beta(t) * alpha / 2, self.beta(t) * alpha**2

    def time_at(self, ratio: Tensor) -> Tensor:
        return self.time_of(2 * torch.asinh(ratio / 2))

"""The trigonometric path that preserves variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dit_exp.process.continuous import ContinuousProcess


class GVP(ContinuousProcess):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Its velocity dx/dt is pi / 2 times v. Source: Ma et al. 2024, arXiv:2401.08740 (SiT's GVP).
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = math.pi / 2 * t
        return angle.cos(), angle.sin()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.coefficients(t)
        return -math.pi / 2 * sigma, math.pi / 2 * alpha

    def time_at(self, ratio: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(ratio)

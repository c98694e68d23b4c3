"""Norms over the channels of a token."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) times a learned gain, for x (..., width).

    Computed in float32 whatever x is, and returned in x's dtype: the mean of squares of bfloat16 numbers
    keeps too few digits. Source: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = nn.functional.rms_norm(x.float(), self.weight.shape, self.weight.float(), eps=1e-6)
        return wide.to(x.dtype)


def layer_norm(width: int) -> nn.LayerNorm:
    """The norm of DiT: no gain of its own, since what conditions a block brings one."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)

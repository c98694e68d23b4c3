"""A weight that is learned: the loss at a time counts by how well it can be predicted there."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Uncertainty(nn.Module):
    """L = error exp(-u) + u, with u a learned function of ln(sigma / alpha).

    u is the logarithm of the expected error where L is least, so every time contributes alike. It is a
    linear map of `channels` cosines of ln(sigma / alpha) / 4 and starts at 0, where the loss is the
    prediction's own error. The frequencies come from a fixed seed, equal in every run and on every rank.
    Its parameters are trained with the network's. Source: Karras et al. 2024, arXiv:2312.02696, section 2.2
    and appendix B.
    """

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"weighting.channels={channels} must be at least 1.")
        generator = torch.Generator().manual_seed(0)
        self.frequency: Tensor
        self.phase: Tensor
        self.register_buffer("frequency", 2 * math.pi * torch.randn(channels, generator=generator))
        self.register_buffer("phase", 2 * math.pi * torch.rand(channels, generator=generator))
        self.gain = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(()))

    def log_error(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """u at alpha and sigma (B,), float32 (B,). Levels beyond exp(+-20) are read as these."""
        level = (sigma / alpha).log().clamp(-20, 20).float()[:, None] / 4
        waves = math.sqrt(2 / len(self.gain)) * (level * self.frequency + self.phase).cos()
        return (waves * self.gain).sum(1) + self.bias

    def forward(self, error: Tensor, alpha: Tensor, sigma: Tensor, image_error: Tensor) -> Tensor:
        u = self.log_error(alpha, sigma)
        return error * (-u).exp() + u

"""The cosine schedule of Improved DDPM."""

from __future__ import annotations

import math

import torch

from dit_exp.process.discrete import DiscreteProcess, at_least_one


class Cosine(DiscreteProcess):
    """abar(t) = cos^2((t + 0.008) / 1.008 pi / 2), betas clipped at 0.999.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672.
    """

    def __init__(self, steps: int = 1000, zero_terminal_snr: bool = False) -> None:
        t = torch.linspace(0, 1, at_least_one(steps) + 1, dtype=torch.float64)
        abar = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
        super().__init__((1 - abar[1:] / abar[:-1]).clamp(max=0.999), zero_terminal_snr)

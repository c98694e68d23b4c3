"""Betas along a sigmoid."""

from __future__ import annotations

import torch

from dit_exp.process.discrete import DiscreteProcess, beta_range


class Sigmoid(DiscreteProcess):
    """Betas from `start` to `end` along a sigmoid over [-6, 6], given for 1000 steps and scaled by 1000 / T.

    Source: Xu et al. 2022, arXiv:2203.02923 (GeoDiff).
    """

    def __init__(
        self, steps: int = 1000, start: float = 1e-4, end: float = 0.02, zero_terminal_snr: bool = False
    ) -> None:
        low, high = beta_range(steps, start, end)
        share = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
        super().__init__(low + share * (high - low), zero_terminal_snr)

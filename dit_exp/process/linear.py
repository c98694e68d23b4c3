"""The linear beta schedule of DDPM and DiT."""

from __future__ import annotations

import torch

from dit_exp.process.discrete import DiscreteProcess, beta_range


class Linear(DiscreteProcess):
    """Betas evenly from `start` to `end`, given for 1000 steps and scaled by 1000 / T for others.

    Source: Ho et al. 2020, arXiv:2006.11239.
    """

    def __init__(
        self, steps: int = 1000, start: float = 1e-4, end: float = 0.02, zero_terminal_snr: bool = False
    ) -> None:
        low, high = beta_range(steps, start, end)
        super().__init__(torch.linspace(low, high, steps, dtype=torch.float64), zero_terminal_snr)

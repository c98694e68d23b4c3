"""Betas whose square roots are evenly spaced."""

from __future__ import annotations

import torch

from dit_exp.process.discrete import DiscreteProcess, beta_range


class Quadratic(DiscreteProcess):
    """Betas as squares of evenly spaced numbers from sqrt(start) to sqrt(end), scaled by 1000 / T.

    Its last state still holds 2.7 % of the signal's amplitude. Source: the "quad" schedule of DDPM's code.
    """

    def __init__(
        self, steps: int = 1000, start: float = 1e-4, end: float = 0.02, zero_terminal_snr: bool = False
    ) -> None:
        low, high = beta_range(steps, start, end)
        roots = torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64)
        super().__init__(roots**2, zero_terminal_snr)

"""Betas whose square roots are evenly spaced."""

from __future__ import annotations

import torch

from dit_exp.process.discrete import DiscreteProcess, at_least_one


class Quadratic(DiscreteProcess):
    """Betas as squares of evenly spaced numbers from sqrt(start) to sqrt(end).

    Its last state still holds 2.7 % of the signal's amplitude. Source: the "quad" schedule of DDPM's code.
    """

    def __init__(self, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> None:
        super().__init__(torch.linspace(start**0.5, end**0.5, at_least_one(steps), dtype=torch.float64) ** 2)

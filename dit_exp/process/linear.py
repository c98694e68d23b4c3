"""The linear beta schedule of DDPM and DiT."""

from __future__ import annotations

import torch

from dit_exp.process.discrete import DiscreteProcess, at_least_one


class Linear(DiscreteProcess):
    """Betas evenly from `start` to `end`, given for 1000 steps and scaled by 1000 / T for others.

    Source: Ho et al. 2020, arXiv:2006.11239.
    """

    def __init__(self, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> None:
        scale = 1000 / at_least_one(steps)
        super().__init__(torch.linspace(start * scale, end * scale, steps, dtype=torch.float64))

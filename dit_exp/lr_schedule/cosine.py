"""A learning rate that falls along a half cosine."""

from __future__ import annotations

import math


class Cosine:
    """final + (1 - final) (1 + cos(pi spent)) / 2: from 1 to `final`, midway at half the budget.

    Source: Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts.
    Raises ValueError for a `final` outside [0, 1].
    """

    def __init__(self, final: float = 0.0) -> None:
        if not 0 <= final <= 1:
            raise ValueError(f"lr_schedule.final={final} must be in [0, 1].")
        self.final = final

    def __call__(self, spent: float) -> float:
        """What the learning rate is multiplied by where a share `spent` in [0, 1] of the budget is used."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(spent, 1.0))) / 2

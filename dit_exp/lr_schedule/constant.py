"""A learning rate that stays."""

from __future__ import annotations


class Constant:
    """1 from the first step to the last. Warm-up is the trainer's."""

    def __call__(self, spent: float) -> float:
        """What the learning rate is multiplied by where a share `spent` in [0, 1] of the budget is used."""
        return 1.0

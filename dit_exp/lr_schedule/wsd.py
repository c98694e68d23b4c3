"""A learning rate that stays and falls at the end: warm-up, stable, decay."""

from __future__ import annotations


class WarmupStableDecay:
    """1, and over the last share `decay` of the budget a straight line from 1 to `final`.

    With a budget in minutes the line is laid over the minutes, so the rate arrives where the training ends on
    a machine of any speed. Warm-up is the trainer's. Source: Hu et al. 2024, arXiv:2404.06395 (MiniCPM).
    Raises ValueError for a `decay` outside (0, 1] or a `final` outside [0, 1].
    """

    def __init__(self, decay: float = 0.25, final: float = 0.0) -> None:
        if not 0 < decay <= 1 or not 0 <= final <= 1:
            raise ValueError(
                f"lr_schedule.decay={decay} must be in (0, 1] and lr_schedule.final={final} in [0, 1]."
            )
        self.decay, self.final = decay, final

    def __call__(self, spent: float) -> float:
        """What the learning rate is multiplied by where a share `spent` in [0, 1] of the budget is used."""
        left = min(1.0, max(0.0, 1 - spent) / self.decay)
        return self.final + (1 - self.final) * left

"""The shifted grid of flow models."""

from __future__ import annotations

from torch import Tensor

from dit_exp.grid.distinct import distinct
from dit_exp.types.diffusion import Process


class Shifted:
    """shift t / (1 - t + shift t) for the process's own times t: above 1, more steps go to the noise.

    On the straight path that multiplies sigma / alpha by `shift`, which larger images need since they drown
    later. Source: Esser et al. 2024, arXiv:2403.03206, section 5.3.2.
    """

    def __init__(self, shift: float = 3.0) -> None:
        if shift <= 0:
            raise ValueError(f"grid.shift={shift} must be above 0.")
        self.shift = shift

    def __call__(self, process: Process, steps: int) -> Tensor:
        """Times, float64 (steps + 1,), falling from 1 to exactly 0."""
        t = process.grid(steps)
        return distinct(process, self.shift * t / (1 - t + self.shift * t))

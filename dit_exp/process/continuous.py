"""What processes share for which every t in [0, 1] is meant."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.process.gaussian import GaussianProcess


class ContinuousProcess(GaussianProcess):
    """Trains at every t in (0, 1] and samples on an even grid.

    `time_scale` multiplies t before the network's time embedding, whose frequencies were chosen for a
    thousand steps; t itself would pass through them as good as constant.
    """

    continuous = True

    def __init__(self, time_scale: float = 1000.0) -> None:
        super().__init__()
        if time_scale <= 0:
            raise ValueError(f"process.time_scale={time_scale} must be above 0.")
        self.time_scale = time_scale

    def times(self, u: Tensor) -> Tensor:
        return u

    def network_time(self, t: Tensor) -> Tensor:
        return t * self.time_scale

    def grid(self, steps: int) -> Tensor:
        return torch.linspace(1, 0, possible(steps) + 1, dtype=torch.float64)


def possible(steps: int) -> int:
    """The number of sampling steps. Raises ValueError for none."""
    if steps < 1:
        raise ValueError(f"sampler.steps={steps} is not possible. Choose at least 1.")
    return steps

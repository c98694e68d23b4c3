"""The straight path of flow matching and rectified flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Flow(nn.Module):
    """x_t = (1 - t) x_0 + t noise, so the velocity dx/dt is noise - x_0.

    `time_scale` multiplies t before the network's time embedding, whose frequencies were chosen for a
    thousand steps. Papers that let t run from noise to data see 1 - t.
    Source: Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747.
    """

    continuous = True

    def __init__(self, time_scale: float = 1000.0) -> None:
        super().__init__()
        self.time_scale = time_scale

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def velocity(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def times(self, u: Tensor) -> Tensor:
        return 1 - u

    def network_time(self, t: Tensor) -> Tensor:
        return t * self.time_scale

    def grid(self, steps: int) -> Tensor:
        if steps < 1:
            raise ValueError(f"sampler.steps={steps} is not possible. Choose at least 1.")
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

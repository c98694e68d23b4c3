"""The straight path of flow matching and rectified flow."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.process.continuous import ContinuousProcess


class Flow(ContinuousProcess):
    """x_t = (1 - t) x_0 + t noise, so the velocity dx/dt is noise - x_0.

    Papers that let t run from noise to data see 1 - t.
    Source: Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747.
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def velocity(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The path's own slope, which is what flow matching regresses on."""
        return self.rates(t)

    def time_at(self, ratio: Tensor) -> Tensor:
        return 1 / (1 + 1 / ratio)

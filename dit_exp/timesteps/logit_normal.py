"""More training in the middle of the path."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.timesteps.warp import Warp
from dit_exp.types.diffusion import Process


class LogitNormal(Warp):
    """logit(t) ~ N(mean, std^2). A mean above 0 means more noise; papers whose time runs to data state -mean.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, stratified: bool = False) -> None:
        super().__init__(stratified)
        if std <= 0:
            raise ValueError(f"timesteps.std={std} must be above 0.")
        self.mean, self.std = mean, std

    def times(self, u: Tensor, process: Process) -> Tensor:
        return process.times((self.mean + self.std * torch.special.ndtri(u)).sigmoid())

"""Training noise levels from a log-normal distribution, as in EDM."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.timesteps.warp import Warp
from dit_exp.types.diffusion import Process


class LogNormal(Warp):
    """ln(sigma / alpha) ~ N(mean, std^2), on whatever process; levels beyond its last are its last.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2, stratified: bool = False) -> None:
        super().__init__(stratified)
        if std <= 0:
            raise ValueError(f"timesteps.std={std} must be above 0.")
        self.mean, self.std = mean, std

    def times(self, u: Tensor, process: Process) -> Tensor:
        return process.time_at((self.mean + self.std * torch.special.ndtri(u)).exp())

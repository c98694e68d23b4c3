"""Times with a bump, or a dip, in the middle."""

from __future__ import annotations

import math

from torch import Tensor

from dit_exp.timesteps.warp import Warp
from dit_exp.types.diffusion import Process


class Mode(Warp):
    """t = u - scale (cos^2(pi (1 - u) / 2) - u): a scale above 0 favours the middle, below 0 the ends.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1, whose u is 1 - u here.
    """

    def __init__(self, scale: float = 1.29, stratified: bool = False) -> None:
        super().__init__(stratified)
        if not -1 <= scale <= 2 / (math.pi - 2):
            raise ValueError(
                f"timesteps.scale={scale} must lie in [-1, {2 / (math.pi - 2):.3f}], where t grows with u."
            )
        self.scale = scale

    def times(self, u: Tensor, process: Process) -> Tensor:
        return process.times(u - self.scale * ((math.pi / 2 * (1 - u)).cos() ** 2 - u))

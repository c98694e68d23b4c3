"""Every image of the batch draws its own time."""

from __future__ import annotations

from torch import Tensor

from dit_exp.timesteps.warp import Warp
from dit_exp.types.diffusion import Process


class Uniform(Warp):
    """Uniform over the process's own times, independently."""

    def __init__(self) -> None:
        super().__init__()

    def times(self, u: Tensor, process: Process) -> Tensor:
        return process.times(u)

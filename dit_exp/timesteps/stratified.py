"""One draw for the whole batch, spread evenly over the process's times."""

from __future__ import annotations

from torch import Tensor

from dit_exp.timesteps.warp import Warp
from dit_exp.types.diffusion import Process


class Stratified(Warp):
    """Uniform over the process's own times, one in each n-th of them.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix I.1.
    """

    def __init__(self) -> None:
        super().__init__(stratified=True)

    def times(self, u: Tensor, process: Process) -> Tensor:
        return process.times(u)

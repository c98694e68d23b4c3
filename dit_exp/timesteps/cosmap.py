"""Times that give the straight path the noise levels of the cosine schedule."""

from __future__ import annotations

import math

from torch import Tensor

from dit_exp.timesteps.warp import Warp
from dit_exp.types.diffusion import Process


class CosMap(Warp):
    """t = 1 - 1 / (tan(pi u / 2) + 1): on process=flow, t / (1 - t) is the cosine schedule's sigma / alpha.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1.
    """

    def times(self, u: Tensor, process: Process) -> Tensor:
        sine, cosine = (math.pi / 2 * u).sin(), (math.pi / 2 * u).cos().clamp(min=0)
        return process.times(sine / (sine + cosine))

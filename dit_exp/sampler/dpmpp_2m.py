"""DPM-Solver++(2M)."""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.exponential import solve
from dit_exp.sampler.walk import Multistep, Stop
from dit_exp.types.diffusion import Denoised, DrawNoise


class DPMSolver2M(Multistep):
    """The line through the last two predicted images, in log-SNR. Second order, one evaluation a step.

    The first step and the one to sigma=0 are of first order. Source: Lu et al. 2022, arXiv:2211.01095,
    algorithm 2.
    """

    memory = 2

    def __init__(self, steps: int = 20, clip: bool = False) -> None:
        super().__init__(steps, clip)

    def advance(
        self, x: Tensor, history: list[tuple[Stop, Denoised]], following: Stop, draw: DrawNoise
    ) -> Tensor:
        return solve(x, [(stop, said.x0) for stop, said in history], following)

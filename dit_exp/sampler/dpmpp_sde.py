"""DPM-Solver++ for the diffusion SDE."""

from __future__ import annotations

import math

from torch import Tensor

from dit_exp.sampler.exponential import decay, midpoint
from dit_exp.sampler.walk import Multistep, Stop
from dit_exp.types.diffusion import Denoised, DrawNoise


class DPMSolverSDE(Multistep):
    """SDE-DPM-Solver++(2M): the line through the last two predicted images, and fresh noise in every step.

    Of second order in the drift; no noise in the step to sigma=0. With one point it is DDIM with eta=1.
    Source: Lu et al. 2022, arXiv:2211.01095, section 6.
    """

    memory = 2

    def __init__(self, steps: int = 50, clip: bool = False) -> None:
        super().__init__(steps, clip)

    def advance(
        self, x: Tensor, history: list[tuple[Stop, Denoised]], following: Stop, draw: DrawNoise
    ) -> Tensor:
        now, said = history[0]
        kept = decay(now, following)
        total, mean = 1 - kept**2, (1 - kept**2) * said.x0
        if len(history) == 2 and following.sigma and not math.isinf(history[1][0].half_log_snr):
            before, old = history[1]
            h = following.half_log_snr - now.half_log_snr
            shares = midpoint([0.0, (before.half_log_snr - now.half_log_snr) / h], total)
            mean = shares[0] * said.x0 + shares[1] * old.x0
        x = following.sigma / now.sigma * kept * x + following.alpha * mean
        return x + following.sigma * math.sqrt(total) * draw() if following.sigma else x

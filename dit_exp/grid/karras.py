"""EDM's grid, laid over any process."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.grid.distinct import distinct
from dit_exp.types.diffusion import Process


class Karras:
    """Even steps in (sigma / alpha)^(1 / rho) from sigma_max to sigma_min, then one to the data.

    Where the process ends before sigma_max its own end is taken; where it goes on to more noise, the first
    time is still 1, since sampling starts from that noise.
    Source: Karras et al. 2022, arXiv:2206.00364, equation 5.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        if not 0 < sigma_min < sigma_max or rho <= 0:
            raise ValueError(
                f"grid.sigma_min={sigma_min}, grid.sigma_max={sigma_max} and grid.rho={rho} must be above 0, "
                "and sigma_max more than sigma_min."
            )
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def __call__(self, process: Process, steps: int) -> Tensor:
        """Times, float64 (steps + 1,), falling from 1 to exactly 0."""
        alpha, sigma = process.coefficients(torch.ones(1, dtype=torch.float64))
        top = (sigma / alpha).clamp(max=self.sigma_max) ** (1 / self.rho)  # on the device of its tables
        low = min(self.sigma_min ** (1 / self.rho), float(top))
        share = torch.linspace(0, 1, steps, dtype=torch.float64, device=top.device)
        times = process.time_at((top + share * (low - top)) ** self.rho).cpu()
        times[0] = 1
        return distinct(process, torch.cat([times, times.new_zeros(1)]))

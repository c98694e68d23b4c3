"""EDM's process: noise is added to an image that keeps its size."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.process.continuous import ContinuousProcess, possible


class EDM(ContinuousProcess):
    """alpha = 1, sigma = sigma_max t^rho, so that even steps in t are EDM's steps in sigma^(1 / rho).

    t=0 is exactly data. Training and sampling use sigma_min <= sigma, that is
    t >= (sigma_min / sigma_max)^(1 / rho); a sampler's last step goes from sigma_min to 0. The network is
    shown x_t / sqrt(sigma^2 + sigma_data^2) and told ln(sigma) / 4 times `time_scale`, as its time embedding
    was made for numbers up to a thousand.
    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        sigma_data: float = 0.5,
        time_scale: float = 1000.0,
    ) -> None:
        super().__init__(time_scale)
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"process.sigma_min={sigma_min} and process.sigma_max={sigma_max} must be above 0, and the "
                "second the larger one."
            )
        if rho <= 0 or sigma_data <= 0:
            raise ValueError(f"process.rho={rho} and process.sigma_data={sigma_data} must be above 0.")
        self.sigma_max, self.rho, self.sigma_data = sigma_max, rho, sigma_data
        self.first = (sigma_min / sigma_max) ** (1 / rho)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_max * t**self.rho

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), self.sigma_max * self.rho * t ** (self.rho - 1)

    def time_at(self, ratio: Tensor) -> Tensor:
        return ((ratio / self.sigma_max) ** (1 / self.rho)).clamp(max=1)

    def times(self, u: Tensor) -> Tensor:
        return self.first + (1 - self.first) * u

    def input_scale(self, t: Tensor) -> Tensor:
        _, sigma = self.coefficients(t)
        return 1 / torch.hypot(sigma, torch.full_like(sigma, self.sigma_data))

    def network_time(self, t: Tensor) -> Tensor:
        _, sigma = self.coefficients(t)
        return sigma.log() / 4 * self.time_scale

    def grid(self, steps: int) -> Tensor:
        noisy = torch.linspace(1, self.first, possible(steps), dtype=torch.float64)
        return torch.cat([noisy, noisy.new_zeros(1)])

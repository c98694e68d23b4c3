"""Discrete variance-preserving diffusion: T steps, and at time t = i / T the state after i of them."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.process.gaussian import GaussianProcess


class DiscreteProcess(GaussianProcess):
    """x_t = sqrt(abar_i) x_0 + sqrt(1 - abar_i) noise, with i = t T and abar_0 = 1.

    betas  float64 (T,), each in (0, 1). The tables are float64, as the products of T factors need.
    zero_terminal_snr  shift and scale alpha so that x_1 is pure noise and the first step keeps its alpha
                       (Lin et al. 2023, arXiv:2305.08891); x_1 then says nothing of x_0, so the network
                       must not predict the noise
    Times between two steps are read as the nearer step. The network is told the index i - 1, 0 to T - 1, as
    published checkpoints expect. Source: Ho et al. 2020, arXiv:2006.11239.
    """

    continuous = False

    def __init__(self, betas: Tensor, zero_terminal_snr: bool = False) -> None:
        super().__init__()
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(
                f"The betas of this process reach from {float(betas.min()):.3g} to "
                f"{float(betas.max()):.3g}, and each must lie between 0 and 1. Fewer steps make them larger: "
                "raise process.steps or lower process.end."
            )
        alpha = torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)]).sqrt()
        if zero_terminal_snr:
            if len(betas) < 2:
                raise ValueError("process.zero_terminal_snr=true needs process.steps of at least 2.")
            first, last = alpha[1], alpha[-1]
            alpha[1:] = (alpha[1:] - last) * first / (first - last)
        [slope] = torch.gradient(alpha, spacing=1 / len(betas))
        self.alpha: Tensor
        self.sigma: Tensor
        self.alpha_rate: Tensor
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("sigma", (1 - alpha**2).sqrt(), persistent=False)
        self.register_buffer("alpha_rate", slope, persistent=False)

    @property
    def steps(self) -> int:
        return len(self.alpha) - 1

    def index(self, t: Tensor) -> Tensor:
        """t in [0, 1] -> int64 0 to T."""
        return (t * self.steps).round().long()

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        i = self.index(t)
        return self.alpha[i].to(t.dtype), self.sigma[i].to(t.dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha' by central differences of its table, sigma' = -alpha alpha' / sigma.

        That is the slope of a curve through the table that preserves variance. sigma' is infinite at t=0,
        where sigma starts as a square root of t.
        """
        i = self.index(t)
        rate, alpha, sigma = self.alpha_rate[i], self.alpha[i], self.sigma[i]
        return rate.to(t.dtype), (-alpha * rate / sigma).to(t.dtype)

    def time_at(self, ratio: Tensor) -> Tensor:
        """The step whose sigma / alpha is nearest in the logarithm; only a ratio of 0 is the data itself, and
        only an infinite one a last step of pure noise.
        """
        log_ratio = (self.sigma / self.alpha).log()
        between = ((log_ratio[1:] + log_ratio[:-1]) / 2).clamp(max=torch.finfo(torch.float64).max)
        return torch.bucketize(ratio.double().log(), between.to(ratio.device)).to(ratio.dtype) / self.steps

    def times(self, u: Tensor) -> Tensor:
        return (u * self.steps).ceil().clamp(min=1) / self.steps

    def network_time(self, t: Tensor) -> Tensor:
        return (self.index(t) - 1).to(t.dtype)

    def grid(self, steps: int) -> Tensor:
        """Evenly spaced indices, rounded, first and last kept: 250 of 1000 are 0, 4, 8, 12, ..., 999."""
        if not 1 <= steps <= self.steps:
            raise ValueError(
                f"sampler.steps={steps} is not possible: the process has {self.steps} steps. "
                f"Choose sampler.steps from 1 to {self.steps}."
            )
        kept = torch.linspace(self.steps - 1, 0, steps, dtype=torch.float64).round() + 1
        return torch.cat([kept, kept.new_zeros(1)]) / self.steps


def at_least_one(steps: int) -> int:
    """The number of steps. Raises ValueError for none."""
    if steps < 1:
        raise ValueError(f"process.steps={steps} must be at least 1.")
    return steps


def beta_range(steps: int, start: float, end: float) -> tuple[float, float]:
    """The first and last beta of T steps that add about as much noise as 1000 steps from `start` to `end`.

    Raises ValueError for no steps or a range that is none.
    """
    scale = 1000 / at_least_one(steps)
    if not 0 < start <= end:
        raise ValueError(
            f"process.start={start} and process.end={end} must be above 0, and the first not the larger one."
        )
    return start * scale, end * scale

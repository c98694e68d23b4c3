"""What every process x_t = alpha(t) x_0 + sigma(t) noise shares, whether its time is a step or a number."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class GaussianProcess(nn.Module, ABC):
    """A `types.Process`: subclasses name alpha, sigma and their slopes, and invert sigma / alpha."""

    continuous: bool

    @abstractmethod
    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t, in t's shape."""

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt, in t's shape."""

    @abstractmethod
    def time_at(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is `ratio`, in its shape."""

    @abstractmethod
    def times(self, u: Tensor) -> Tensor:
        """Training times in (0, 1] for u in (0, 1]."""

    @abstractmethod
    def grid(self, steps: int) -> Tensor:
        """Sampling times, float64 (steps + 1,), from 1 down to 0."""

    @abstractmethod
    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told for t."""

    def velocity(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """v = (alpha noise - sigma x_0) / sqrt(alpha^2 + sigma^2): the direction in which the angle between
        signal and noise grows. The root is 1 where variance is preserved.
        """
        alpha, sigma = self.coefficients(t)
        length = torch.hypot(alpha, sigma)
        return -sigma / length, alpha / length

    def input_scale(self, t: Tensor) -> Tensor:
        """1: x_t is handed to the network as it is."""
        return torch.ones_like(t)

    @property
    def prior_scale(self) -> float:
        """sigma(1): sampling starts from sigma(1) noise, as if no signal were left."""
        return float(self.coefficients(torch.ones((), dtype=torch.float64))[1])

"""What a network may predict, as one linear change of variables.

Of the pair (x0, noise) every prediction is a mix p = a x0 + b noise, and x_t = alpha x0 + sigma noise is
another; the two equations give both back. A prediction is a subclass that names its weights (a, b).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from dit_exp.types import Denoised, Network, Process


def per_image(value: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, ...) to go with `like`, in its dtype."""
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class Prediction(ABC):
    """Mean squared error of a prediction, with times drawn by `timesteps(n, device) -> u` in (0, 1]."""

    name: str
    outputs = 1
    """Output channels for each input channel."""

    def __init__(self, process: Process, timesteps: Callable[[int, torch.device], Tensor]) -> None:
        self.process, self.timesteps = process, timesteps
        one = torch.ones((), dtype=torch.float64)
        alpha, sigma = process.coefficients(one)
        a, b = self.weights(one)
        if abs(float(a * sigma - b * alpha)) < 1e-9:
            raise ValueError(
                f"objective={self.name} cannot be used with this process: at t=1 the input is pure noise, so "
                f"{self.name} says nothing of the image there. Use objective=v or objective=x."
            )

    @abstractmethod
    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The shares (a, b) of x0 and of noise in what is predicted at t."""

    def sample_t(self, n: int, device: torch.device) -> Tensor:
        """Training times, float32 (n,) in (0, 1]."""
        return self.process.times(self.timesteps(n, device))

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should say: shaped like x0 (B, C, h, w), for t (B,)."""
        a, b = self.weights(t)
        return per_image(a, x0) * x0 + per_image(b, x0) * noise

    def denoised(self, out: Tensor, x_t: Tensor, t: Tensor) -> Denoised:
        """The pair (x0, noise) that the output and x_t imply, in float32 or better."""
        out = out.to(x_t.dtype)
        alpha, sigma = (per_image(v, x_t) for v in self.process.coefficients(t))
        a, b = (per_image(v, x_t) for v in self.weights(t))
        determinant = a * sigma - b * alpha
        return Denoised((sigma * out - b * x_t) / determinant, (a * x_t - alpha * out) / determinant)

    def loss(self, network: Network, x0: Tensor, label: Tensor | None) -> Tensor:
        """Loss of each image, float32 (B,), at times and noise drawn here from torch's default generator."""
        t = self.sample_t(len(x0), x0.device)
        noise = torch.randn_like(x0)
        alpha, sigma = self.process.coefficients(t)
        x_t = per_image(alpha, x0) * x0 + per_image(sigma, x0) * noise
        return self.error(network(x_t, t, label).float(), x0, noise, x_t, t)

    def error(self, out: Tensor, x0: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Loss of each image (B,) for an output."""
        return (out - self.target(x0, noise, t)).square().flatten(1).mean(1)

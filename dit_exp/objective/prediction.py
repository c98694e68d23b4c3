"""What a network may predict, as one linear change of variables.

Of the pair (x0, noise) every prediction is a mix p = a x0 + b noise, and x_t = alpha x0 + sigma noise is
another; the two equations give both back. A prediction is a subclass that names its weights (a, b).

Notable: an objective is a module. Its parameters (a learned weighting's) are trained with the network's, its
state_dict (those, and what the timesteps learned) belongs into a checkpoint, and `learn` is called each step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from dit_exp.types.diffusion import Denoised, Process, Timesteps, Weighting
from dit_exp.types.network import Network
from dit_exp.types.training import Objective
from dit_exp.weighting.none import NoWeighting


def per_image(value: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, ...) to go with `like`, in its dtype."""
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class Prediction(Objective, ABC):
    """Squared error of a prediction at times drawn by `timesteps`, counted by `weighting`."""

    name: str
    outputs = 1
    """Output channels for each input channel."""

    def __init__(self, process: Process, timesteps: Timesteps, weighting: Weighting | None = None) -> None:
        super().__init__()
        self.process, self.timesteps = process, timesteps
        self.weighting: Weighting = NoWeighting() if weighting is None else weighting
        self.unlearned: list[tuple[Tensor, Tensor]] = []
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
        """Loss of each image, float32 (B,), at times and noise drawn here from torch's default generator.

        In training mode the losses are kept for `learn`, where the timesteps learn from them.
        """
        place, t, draw_weight = self.timesteps(self.process, len(x0), x0.device)
        noise = torch.randn_like(x0)
        alpha, sigma = self.process.coefficients(t)
        x_t = per_image(alpha, x0) * x0 + per_image(sigma, x0) * noise
        loss = self.error(network(x_t, t, label).float(), x0, noise, x_t, t)
        if self.training and self.timesteps.learns:
            self.unlearned.append((place, loss.detach()))
        return loss * draw_weight

    def learn(self, gather: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        """Shows the timesteps the losses since the last call; does nothing where they do not learn.

        gather  joins a tensor (n,) of every rank to one, in the same order on each
        """
        if self.unlearned:
            place, loss = (gather(torch.cat(values)) for values in zip(*self.unlearned, strict=True))
            self.unlearned.clear()
            self.timesteps.update(place, loss)

    def error(self, out: Tensor, x0: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Weighted loss of each image (B,) for an output."""
        alpha, sigma = self.process.coefficients(t)
        return self.weighting(self.distance(out, x0, noise, t), alpha, sigma, self.image_error(t))

    def distance(self, out: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error of each output, (B,)."""
        return (out - self.target(x0, noise, t)).square().flatten(1).mean(1)

    def image_error(self, t: Tensor) -> Tensor:
        """The squared error of x0 that a `distance` of 1 makes, in t's shape."""
        alpha, sigma = self.process.coefficients(t)
        a, b = self.weights(t)
        return (sigma / (a * sigma - b * alpha)) ** 2

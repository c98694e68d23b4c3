"""Prediction of the noise and of the reverse step's variance, with the hybrid loss of Improved DDPM."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dit_exp.objective.eps import NoisePrediction
from dit_exp.objective.prediction import per_image
from dit_exp.types.diffusion import Denoised, DiscreteSteps, Timesteps, Weighting


class HybridNoisePrediction(NoisePrediction):
    """Twice the channels: eps, and v in about [-1, 1] that places the log variance between its two bounds.

    Loss: mean squared error of eps plus the variational bound's term at t in bits a dimension, whose
    gradient reaches the variance alone; a weighting counts the first and leaves the second. The bound's
    first term reads images as 8-bit values; on latents it still trains the variance, but is no likelihood.
    Source: Nichol & Dhariwal 2021, arXiv:2102.09672. Raises ValueError on a continuous process.
    """

    name = "eps_hybrid"
    outputs = 2

    def __init__(
        self, process: DiscreteSteps, timesteps: Timesteps, weighting: Weighting | None = None
    ) -> None:
        if process.continuous:
            raise ValueError(
                "objective=eps_hybrid learns the variance of discrete steps, and this process is continuous. "
                "Use process=linear, cosine or quadratic."
            )
        super().__init__(process, timesteps, weighting)
        abar = process.alpha**2
        beta = 1 - abar[1:] / abar[:-1]
        small = beta * (1 - abar[:-1]) / (1 - abar[1:])
        small[0] = small[1]  # the first step's posterior has no variance, and its log would be -inf
        self.log_small, self.log_large = small.log().float(), beta.log().float()
        self.mean_x0 = (abar[:-1].sqrt() * beta / (1 - abar[1:])).float()
        self.mean_xt = ((1 - beta).sqrt() * (1 - abar[:-1]) / (1 - abar[1:])).float()
        self.index = process.index

    def denoised(self, out: Tensor, x_t: Tensor, t: Tensor) -> Denoised:
        eps, v = out.to(x_t.dtype).chunk(2, dim=1)
        return super().denoised(eps, x_t, t)._replace(variance=(v + 1) / 2)

    def error(self, out: Tensor, x0: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        eps, v = out.chunk(2, dim=1)
        frozen = torch.cat([eps.detach(), v], dim=1)
        return super().error(eps, x0, noise, x_t, t) + self.bound(frozen, x0, x_t, t)

    def bound(self, out: Tensor, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The variational bound's term at t, in bits a dimension, (B,)."""
        said = self.denoised(out, x_t, t)
        assert said.variance is not None
        at = self.index(t) - 1

        def table(values: Tensor) -> Tensor:
            return per_image(values[at], x_t)

        log_small, log_large = table(self.log_small), table(self.log_large)
        log_variance = said.variance * log_large + (1 - said.variance) * log_small
        true_mean = table(self.mean_x0) * x0 + table(self.mean_xt) * x_t
        mean = table(self.mean_x0) * said.x0 + table(self.mean_xt) * x_t
        divergence = 0.5 * (
            log_variance
            - log_small
            - 1
            + (log_small - log_variance).exp()
            + (true_mean - mean) ** 2 * (-log_variance).exp()
        )
        first = -discretized_log_likelihood(x0, mean, 0.5 * log_variance)
        nats = torch.where(per_image(t, x_t) * len(self.log_small) < 1.5, first, divergence)
        return nats.flatten(1).mean(1) / math.log(2)


def discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of 8-bit values in [-1, 1] under a normal, bin by bin, the outer bins open."""

    def cdf(z: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    centred, inverse = x - mean, torch.exp(-log_scale)
    above, below = cdf(inverse * (centred + 1 / 255)), cdf(inverse * (centred - 1 / 255))
    inside = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return inside.clamp(min=1e-12).log()

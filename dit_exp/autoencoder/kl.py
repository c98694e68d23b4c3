"""A variational autoencoder: an image has a normal distribution of latents, held near the standard one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dit_exp.autoencoder.convolutional import Convolutional


class KL(Convolutional):
    """Encoder outputs are mean and log variance; in training and in `encode` a latent is drawn.

    penalty  weight of the divergence from the standard normal, in nats an image

    Source: Kingma & Welling 2013, arXiv:1312.6114; the small weight: Rombach et al. 2021, arXiv:2112.10752.
    """

    stochastic = True
    moments = 2

    def __init__(
        self,
        channels: int = 4,
        widths: Sequence[int] = (128, 256, 384),
        layers: int = 2,
        attention: bool = False,
        groups: int = 32,
        penalty: float = 1e-6,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__({"channels": channels}, channels, widths, layers, attention, groups, checkpoint)
        self.penalty = penalty
        self.load()

    def statistics(self, image: Tensor) -> Tensor:
        mean, log_variance = self.raw(image).chunk(2, dim=1)
        return torch.cat([mean, _bounded(log_variance).div(2).exp()], dim=1)

    def bottleneck(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, log_variance = raw.float().chunk(2, dim=1)
        log_variance = _bounded(log_variance)
        nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
        z = mean + log_variance.div(2).exp() * torch.randn_like(mean)
        return z, self.penalty * nats, None


def _bounded(log_variance: Tensor) -> Tensor:
    """As in diffusers: beyond these a variance is none."""
    return log_variance.clamp(-30.0, 20.0)

"""From a batch to what the network is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dit_exp.augment.none import NoAugmentation
from dit_exp.images import to_model_range
from dit_exp.types.data import Augment, Autoencoder


def drop_labels(label: Tensor, null_label: int | None, probability: float) -> Tensor:
    """Replaces each label (B,) by the null label with a probability, image by image."""
    if null_label is None or probability == 0:
        return label
    dropped = torch.rand(len(label), device=label.device) < probability
    return torch.where(dropped, null_label, label)


class Seen(NamedTuple):
    """x0 (B, c, h, w), as the model sees it.

    image  (B, C, H, W) in [-1, 1], what x0 was encoded from, or None where a cache holds no images
    told   what the model's call is told of the images, by name
    """

    x0: Tensor
    image: Tensor | None
    told: dict[str, Tensor]


@torch.no_grad()
def encoded(
    autoencoder: Autoencoder,
    batch: Tensor,
    augment: Augment | None = None,
    noise: Callable[[], Tensor] | None = None,
) -> Seen:
    """What becomes of a batch: uint8 images, or the statistics of images that a cache has stored.

    augment  of images alone; None does without
    noise    standard normal, shaped like the latents, for an autoencoder that draws; None: torch's stream
    """
    image, told = None, {}
    if batch.is_floating_point():
        statistics = batch.float()
    else:
        image, told = (augment or NoAugmentation())(to_model_range(batch))
        statistics = autoencoder.statistics(image)
    if not autoencoder.stochastic:
        return Seen(autoencoder.latent(statistics, None), image, told)
    mean, _ = statistics.chunk(2, dim=1)
    drawn = torch.randn_like(mean) if noise is None else noise()
    return Seen(autoencoder.latent(statistics, drawn), image, told)

"""No autoencoder: the model sees pixels."""

from __future__ import annotations

from torch import Tensor


class Identity:
    """Latents are the images themselves, (B, C, H, W) in [-1, 1]."""

    bounds = (-1.0, 1.0)

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, latent: Tensor) -> Tensor:
        return latent

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return image_shape

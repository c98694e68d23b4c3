"""No autoencoder: the model sees pixels."""

from __future__ import annotations

from torch import Tensor


class Identity:
    """Latents are the images themselves, (B, C, H, W) in [-1, 1]."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)
    stochastic = False

    def __init__(self, checkpoint: str | None = None) -> None:
        """build.py puts a checkpoint's own autoencoder in this one's place. Raises ValueError for one."""
        if checkpoint is not None:
            raise ValueError("autoencoder=identity has no weights to load.")

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, latent: Tensor) -> Tensor:
        return latent

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return image_shape

    def identity(self) -> str:
        return "identity"

    def statistics(self, image: Tensor) -> Tensor:
        return image

    def latent(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        return statistics

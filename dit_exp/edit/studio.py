"""What an edit works with, and what every edit is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dit_exp.images import to_model_range, to_uint8
from dit_exp.sampler.walk import Sampler
from dit_exp.seeds import ImageNoise
from dit_exp.types.data import Autoencoder
from dit_exp.types.diffusion import Denoiser, Process


@dataclass(frozen=True)
class Studio:
    """A trained network, ready to draw.

    denoiser  makes the denoiser of a trajectory of n images, with label and guidance
    times     of the sampler, float64 (steps + 1,), falling to 0
    size      height and width of an image in pixels
    """

    denoiser: Callable[[int], Denoiser]
    sampler: Sampler
    process: Process
    times: Tensor
    autoencoder: Autoencoder
    size: int
    latent_shape: tuple[int, int, int]
    seed: int
    device: torch.device

    def noise(self, indices: Sequence[int]) -> ImageNoise:
        """Streams of images by number, those that task=sample draws the images of these numbers from."""
        return ImageNoise(self.seed, indices, self.latent_shape, self.device)

    def encode(self, picture: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> latents (B, C, h, w)."""
        return self.autoencoder.encode(to_model_range(picture.to(self.device)))

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> uint8 (B, 3, H, W) on the CPU."""
        return to_uint8(self.autoencoder.decode(latent)).cpu()

    def sample(self, x: Tensor, draw: ImageNoise) -> Tensor:
        """x at t=1 -> latents, by the sampler over all its times."""
        return self.sampler(self.denoiser(len(x)), x, self.process, draw, self.times)


class Edit(Protocol):
    """One way to make pictures from pictures, in two steps, so that mistakes show before any work is done."""

    def prepare(self, studio: Studio) -> tuple[Tensor, ...]:
        """Reads what it starts from: pictures, uint8 (1, 3, H, W) each. Raises UserError for what cannot be
        done.
        """
        ...

    def __call__(self, studio: Studio, *pictures: Tensor) -> Tensor:
        """The pictures that `prepare` has read -> edited ones, uint8 (N, 3, H, W)."""
        ...


def at_least(key: str, value: int, least: int = 1) -> int:
    """The value of edit.`key`. Raises ValueError below `least`."""
    if value < least:
        raise ValueError(f"edit.{key}={value} must be at least {least}.")
    return value

"""What autoencoders with weights have in common: latents of zero mean and unit variance, and a name."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dit_exp.types.network import Trainable


class Latents(Trainable, ABC):
    """Meets types.Autoencoder; a subclass says what it makes of images and what it draws from latents.

    settings  what it was made with, for its identity
    channels  of a latent
    halvings  times that an image's sides are halved

    Buffers: `mean` and `std` (channels, 1, 1) of raw latents, and `measured`, the images they are of, 0 where
    they have not been measured.
    """

    bounds: tuple[float, float] | None = None
    stochastic = False
    mean: Tensor
    std: Tensor
    measured: Tensor

    def __init__(self, settings: dict[str, Any], channels: int, halvings: int) -> None:
        super().__init__()
        self.settings, self.channels, self.halvings = settings, channels, halvings
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.register_buffer("measured", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def statistics(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> raw latents, or their mean and standard deviation along the channels."""

    @abstractmethod
    def image_of(self, raw: Tensor) -> Tensor:
        """Raw latents (B, c, h, w) -> images (B, 3, H, W)."""

    def drawn(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        """Raw latents; without noise the mean, where there is a distribution of them."""
        if not self.stochastic:
            return statistics
        mean, std = statistics.chunk(2, dim=1)
        return mean if noise is None else mean + std * noise

    def latent(self, statistics: Tensor, noise: Tensor | None = None) -> Tensor:
        return (self.drawn(statistics, noise) - self.mean) / self.std

    def encode(self, image: Tensor) -> Tensor:
        statistics = self.statistics(image)
        if not self.stochastic:
            return self.latent(statistics)
        shape = (len(statistics), self.channels, *statistics.shape[2:])
        return self.latent(statistics, torch.randn(shape, device=image.device, dtype=statistics.dtype))

    def decode(self, latent: Tensor) -> Tensor:
        return self.image_of(latent * self.std + self.mean)

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Raises ValueError for sides that cannot be halved so often."""
        colours, rows, columns = image_shape
        factor = 2**self.halvings
        if colours != 3 or rows % factor or columns % factor:
            raise ValueError(
                f"This autoencoder takes RGB images with sides that {factor} divides, and the data's are "
                f"{rows}x{columns} of {colours} channels. Choose such a data.image_size."
            )
        return self.channels, rows // factor, columns // factor

    def identity(self) -> str:
        """Sixteen hexadecimal digits that change with any setting and any weight."""
        sha256 = hashlib.sha256(f"{type(self).__name__} {json.dumps(self.settings)}".encode())
        for name, value in sorted(self.state_dict().items()):
            sha256.update(name.encode())
            sha256.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return sha256.hexdigest()[:16]

    @torch.no_grad()
    def measure(self, images: Iterable[Tensor]) -> None:
        """Sets mean and std of each channel to those of the raw latents of images (b, 3, H, W) in [-1, 1].

        Stable Diffusion scales all channels alike; with a scale for each, none is lost in the others' noise.
        """
        generator = torch.Generator().manual_seed(0)
        sums, squares, count, places = 0.0, 0.0, 0, 0
        for image in images:
            statistics = self.statistics(image)
            noise = torch.randn(statistics[:, : self.channels].shape, generator=generator)
            raw = self.drawn(statistics, noise.to(statistics)).double()
            sums, squares = sums + raw.sum((0, 2, 3)), squares + raw.square().sum((0, 2, 3))
            count, places = count + len(raw), places + len(raw) * raw[0, 0].numel()
        if not isinstance(sums, Tensor) or not isinstance(squares, Tensor):
            raise ValueError("A scale is measured on one image or more.")
        mean = sums / places
        std = (squares / places - mean.square()).clamp(min=1e-12).sqrt()
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(std[:, None, None])
        self.measured.fill_(count)

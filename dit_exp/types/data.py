"""Images, latents and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(NamedTuple):
    """`image` uint8 (B, C, H, W), or from a cache float statistics of images; `label` int64 (B,) or None."""

    image: Tensor
    label: Tensor | None


class Batches(Protocol):
    """Training batches. Batch k is the same whatever was drawn before it, so a run can resume at k."""

    def batches(self, start: int = 0) -> Iterator[Batch]: ...


class Feed(Batches, Protocol):
    """Training batches from images that may be held on a device."""

    def on(self, device: torch.device) -> Batches:
        """The same batches, gathered on a device that holds all images.

        Raises UserError where they are not stored as they are used, or do not fit.
        """
        ...


class DataSet(Protocol):
    """Images and labels. `num_classes` is 0 where there are no labels, `held_out` is a split to test on;
    `flip`: training mirrors a random half of the images.
    """

    num_classes: int
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    held_out: str
    flip: bool

    def check(self) -> None:
        """Raises UserError for what can be known to be missing without reading any image."""
        ...

    def train(self, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> Feed:
        """Shuffled, flipped where asked, endless."""
        ...

    def images(self, split: str, count: int | None = None, start: int = 0) -> Iterator[Tensor]:
        """`count` images of a split from number `start` in a fixed order, unflipped, in pieces: uint8
        (b, C, H, W).
        """
        ...

    def examples(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        """The first `count` of what training batches hold, as `images`: images, or their statistics."""
        ...

    def labels(self, split: str) -> Tensor | None:
        """The labels of a split's images in the same order, int64 (N,), or None without classes."""
        ...

    def size(self, split: str) -> int:
        """Images in a split."""
        ...

    def identity(self, split: str) -> str:
        """A short hash of the files and the transform; equal for equal images."""
        ...


class Augmented(NamedTuple):
    """image (B, C, H, W) in [-1, 1]; `told` is what the model's call is told of it, by name."""

    image: Tensor
    told: dict[str, Tensor]


class Augment(Protocol):
    """What is done to training images beyond the data set's own flips: (B, C, H, W) in [-1, 1] -> Augmented.

    entries  numbers in the label (B, entries) that says what was done, 0 where the model is told nothing
    """

    entries: int

    def __call__(self, image: Tensor) -> Augmented: ...


class Autoencoder(Protocol):
    """Between images (B, C, H, W) in [-1, 1] and latents (B, c, h, w), normalised as the model sees them.

    bounds      the range of a latent, or None
    stochastic  whether an image has a distribution of latents and not one
    """

    bounds: tuple[float, float] | None
    stochastic: bool

    def encode(self, image: Tensor) -> Tensor:
        """latent(statistics(image), noise), with standard normal noise where it is stochastic."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Images; where there is a codebook, latents are quantised here, once."""
        ...

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]: ...

    def identity(self) -> str:
        """A short hash of weights and settings: equal for equal latents."""
        ...

    def statistics(self, image: Tensor) -> Tensor:
        """What a cache stores: the raw latent, or mean and standard deviation stacked along the channels
        (B, 2 c, h, w) where it is stochastic.
        """
        ...

    def latent(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        """Statistics and noise (B, c, h, w), None where it is not stochastic -> latents, normalised."""
        ...

"""Images, latents and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    """`image` uint8 (B, C, H, W) and `label` int64 (B,), or None where the data has no classes."""

    image: Tensor
    label: Tensor | None


class Feed(Protocol):
    """Training batches. Batch k is the same whatever was drawn before it, so a run can resume at k."""

    def batches(self, start: int = 0) -> Iterator[Batch]: ...


class DataSet(Protocol):
    """Images and labels. `num_classes` is 0 where there are no labels; `held_out` is a split to test on."""

    num_classes: int
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    held_out: str

    def check(self) -> None:
        """Raises UserError for what can be known to be missing without reading any image."""
        ...

    def train(self, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> Feed:
        """Shuffled, flipped where asked, endless."""
        ...

    def images(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        """The first `count` images of a split in a fixed order, unflipped: uint8 (b, C, H, W) pieces."""
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
    """Between images in [-1, 1] and what the model sees. `bounds` is the range of a latent, or None."""

    bounds: tuple[float, float] | None

    def encode(self, image: Tensor) -> Tensor: ...
    def decode(self, latent: Tensor) -> Tensor: ...
    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]: ...

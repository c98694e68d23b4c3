"""Training batches without end, in an order that can be taken up anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dit_exp.data.resident import ResidentFeed
from dit_exp.errors import UserError
from dit_exp.types.data import Batch, Batches


class ShuffledFeed(ABC):
    """Shuffled batches without end; batch k is a function of (seed, k, rank) alone.

    Positions run through one random order of the images after another, so every epoch sees each image once
    and a batch may straddle two epochs. Of the `world` consecutive batches of a step, rank r takes the r-th.

    count  images   labels  int64 (N,) or None   flip  mirror a random half of the images
    Raises UserError for fewer images than the ranks' batches need together.
    """

    def __init__(
        self,
        count: int,
        labels: np.ndarray | None,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
        flip: bool,
    ) -> None:
        if count < batch_size * world:
            raise UserError(
                f"The data has {count} training images, fewer than one batch of {batch_size * world}. "
                "Lower trainer.batch_size or pass more data."
            )
        self.count, self.labels = count, labels
        self.batch_size, self.seed, self.rank, self.world, self.flip = batch_size, seed, rank, world, flip

    @abstractmethod
    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches start, start + 1, and so on."""

    def on(self, device: torch.device) -> Batches:
        """The same batches, gathered on a device that holds all images; refused where they are not stored."""
        raise UserError(
            "trainer.resident_data=true holds the training images on the device, and those of this data set "
            "are decoded as they are asked for. Pass trainer.resident_data=false, or store latents with "
            "task=cache."
        )

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """The images' numbers in the order of an epoch."""
        return draw.permutation(self.count)

    def positions(self, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers of images, which of them to mirror) of batches start, start + 1, and so on."""
        step, epoch, order = start, -1, np.empty(0, np.int64)
        while True:
            first = (step * self.world + self.rank) * self.batch_size
            pieces, taken = [], 0
            while taken < self.batch_size:
                now, offset = divmod(first + taken, self.count)
                if now != epoch:
                    epoch, order = now, self.order(np.random.default_rng([self.seed, now]))
                pieces.append(order[offset : offset + self.batch_size - taken])
                taken += len(pieces[-1])
            yield np.concatenate(pieces), self._mirrored(step)
            step += 1

    def batch(self, index: np.ndarray, image: np.ndarray) -> Batch:
        """The images of these numbers, with their labels."""
        label = None if self.labels is None else torch.from_numpy(self.labels[index])
        return Batch(torch.from_numpy(image), label)

    def _mirrored(self, step: int) -> np.ndarray:
        if not self.flip:
            return np.zeros(self.batch_size, bool)
        drawn = np.random.default_rng([self.seed, step, 1]).random((self.world, self.batch_size))
        return drawn[self.rank] < 0.5


class ArrayFeed(ShuffledFeed):
    """From an array in memory or mapped there, uint8 (N, C, H, W), with no Python per image."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
        flip: bool,
    ) -> None:
        super().__init__(len(images), labels, batch_size, seed, rank, world, flip)
        self.images = images

    def batches(self, start: int = 0) -> Iterator[Batch]:
        for index, mirrored in self.positions(start):
            yield self.batch(index, flipped(self.images[index], mirrored))

    def on(self, device: torch.device) -> ResidentFeed:
        return ResidentFeed([self.images], self.labels, self.positions, flipped_there, device)


def flipped(image: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Images (B, C, H, W), changed in place: those of `mirrored` (B,) have left and right exchanged."""
    image[mirrored] = image[mirrored][..., ::-1]
    return image


def flipped_there(images: Tensor, index: Tensor, mirrored: Tensor) -> Tensor:
    """Images (N, C, H, W) -> those of `index` (B,), where `mirrored` (B,) with left and right exchanged."""
    image = images[index]
    return torch.where(mirrored[:, None, None, None], image.flip(-1), image)

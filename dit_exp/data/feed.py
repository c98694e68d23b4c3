"""Training batches from an array in memory, with no Python per image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dit_exp.errors import UserError
from dit_exp.types.data import Batch


class ArrayFeed:
    """Shuffled batches without end; batch k is a function of (seed, k, rank) alone.

    Positions run through one random order of the images after another, so every epoch sees each image once
    and a batch may straddle two epochs. Of the `world` consecutive batches of a step, rank r takes the r-th.

    images  uint8 (N, C, H, W)   labels  int64 (N,) or None   flip  mirror a random half of the images
    Raises UserError for fewer images than the ranks' batches need together.
    """

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
        if len(images) < batch_size * world:
            raise UserError(
                f"The data has {len(images)} training images, fewer than one batch of {batch_size * world}. "
                "Lower trainer.batch_size or pass more data."
            )
        self.images, self.labels = images, labels
        self.batch_size, self.seed, self.rank, self.world, self.flip = batch_size, seed, rank, world, flip

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches start, start + 1, and so on."""
        count, step, epoch, order = len(self.images), start, -1, np.empty(0, np.int64)
        while True:
            first = (step * self.world + self.rank) * self.batch_size
            pieces, taken = [], 0
            while taken < self.batch_size:
                now, offset = divmod(first + taken, count)
                if now != epoch:
                    epoch, order = now, np.random.default_rng([self.seed, now]).permutation(count)
                pieces.append(order[offset : offset + self.batch_size - taken])
                taken += len(pieces[-1])
            yield self._batch(np.concatenate(pieces), step)
            step += 1

    def _batch(self, index: np.ndarray, step: int) -> Batch:
        image = self.images[index]
        if self.flip:
            drawn = np.random.default_rng([self.seed, step, 1]).random((self.world, len(index)))
            mirrored = drawn[self.rank] < 0.5
            image[mirrored] = image[mirrored][..., ::-1]
        label = None if self.labels is None else torch.from_numpy(self.labels[index])
        return Batch(torch.from_numpy(image), label)

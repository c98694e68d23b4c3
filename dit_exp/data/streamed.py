"""Data sets that are too large to be decoded once: images are decoded as they are asked for, by threads."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import tee

import numpy as np
import torch
from torch import Tensor

from dit_exp.data.encoded import Encoded
from dit_exp.data.feed import ShuffledFeed, flipped
from dit_exp.data.picture import adm_crop, decode
from dit_exp.errors import UserError
from dit_exp.types.data import Batch

PIECE = 64
AHEAD = 3
"""Batches that are decoded before they are asked for."""

Decode = Callable[[int], np.ndarray]
"""The number of an image -> uint8 (3, H, W)."""


class StreamedData(ABC):
    """Splits of encoded images, cropped as ADM does; a subclass says where they lie. Meets types.DataSet.

    Of all images only the batches ahead are decoded at a time.
    """

    num_classes: int
    class_names: Sequence[str]
    held_out: str

    def __init__(self, image_size: int, flip: bool) -> None:
        if image_size < 1:
            raise UserError(f"data.image_size={image_size} must be at least 1.")
        self.image_size, self.flip = image_size, flip
        self.image_shape = (3, image_size, image_size)
        self._sources: dict[str, Encoded] = {}

    @abstractmethod
    def find(self, split: str) -> Encoded:
        """The images of a split. Raises UserError where there are none."""

    def source(self, split: str) -> Encoded:
        if split not in self._sources:
            found = self.find(split)
            wrong = found.labels[(found.labels < 0) | (found.labels >= max(1, self.num_classes))]
            if len(wrong):
                raise UserError(
                    f"The {split} split has the label {wrong[0]}, outside 0 to {self.num_classes - 1}. "
                    "Choose the data= that these files are of."
                )
            self._sources[split] = found
        return self._sources[split]

    def check(self) -> None:
        self.source("train")

    def size(self, split: str) -> int:
        return len(self.source(split).labels)

    def labels(self, split: str) -> Tensor | None:
        return torch.from_numpy(self.source(split).labels) if self.num_classes else None

    def identity(self, split: str) -> str:
        facts = f"adm {self.image_size}\n{self.source(split).facts}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def train(self, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> StreamedFeed:
        source = self.source("train")
        labelled = self.num_classes > 0
        return StreamedFeed(source, self.reader(source), labelled, batch_size, seed, rank, world, self.flip)

    def images(self, split: str, count: int | None = None, start: int = 0) -> Iterator[Tensor]:
        source = self.source(split)
        numbers = np.arange(len(source.labels))[start:][:count]
        pieces = (numbers[first : first + PIECE] for first in range(0, len(numbers), PIECE))
        for images in decoded(self.reader(source), pieces):
            yield torch.from_numpy(images)

    def examples(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        return self.images(split, count)

    def reader(self, source: Encoded) -> Decode:
        def read(index: int) -> np.ndarray:
            image = adm_crop(decode(*source.read(int(index))), self.image_size)
            return np.asarray(image).transpose(2, 0, 1)

        return read


class StreamedFeed(ShuffledFeed):
    """Decodes the next batches while one is in use. labelled  whether batches carry labels"""

    def __init__(
        self,
        source: Encoded,
        read: Decode,
        labelled: bool,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
        flip: bool,
    ) -> None:
        labels = source.labels if labelled else None
        super().__init__(len(source.labels), labels, batch_size, seed, rank, world, flip)
        self.read, self.order = read, source.order

    def batches(self, start: int = 0) -> Iterator[Batch]:
        coming, now = tee(self.positions(start))
        pieces = decoded(self.read, (index for index, _ in coming))
        for images, (index, mirrored) in zip(pieces, now, strict=False):
            yield self.batch(index, flipped(images, mirrored))


def decoded(read: Decode, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The images of each piece of numbers, uint8 (n, 3, H, W), decoded a few pieces ahead."""
    pool, waiting = ThreadPoolExecutor(), deque()
    try:
        for piece in pieces:
            waiting.append([pool.submit(read, index) for index in piece])
            if len(waiting) > AHEAD:
                yield np.stack([job.result() for job in waiting.popleft()])
        while waiting:
            yield np.stack([job.result() for job in waiting.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)

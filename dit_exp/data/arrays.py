"""Data sets that fit on a disk as one uint8 array a split."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dit_exp.data import cache as caching
from dit_exp.data import parquet
from dit_exp.data.feed import ArrayFeed
from dit_exp.data.picture import decode
from dit_exp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

PIECE = 500


class ArrayData(ABC):
    """Splits as arrays; what a subclass adds is where they come from. Meets types.DataSet."""

    num_classes: int
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    held_out = "test"

    def __init__(self, image_size: int, flip: bool) -> None:
        if image_size < 1:
            raise UserError(f"data.image_size={image_size} must be at least 1.")
        self.image_size, self.flip = image_size, flip
        self.image_shape = (3, image_size, image_size)

    @abstractmethod
    def arrays(self, split: str) -> caching.Arrays:
        """Images uint8 (N, 3, H, W) and labels int64 (N,), all zero where there are no classes."""

    @abstractmethod
    def identity(self, split: str) -> str:
        """A short hash of the files and the transform."""

    @abstractmethod
    def check(self) -> None:
        """Raises UserError for what can be known to be missing without reading any image."""

    def size(self, split: str) -> int:
        return len(self.arrays(split)[0])

    def train(self, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> ArrayFeed:
        images, labels = self.arrays("train")
        return ArrayFeed(
            images, labels if self.num_classes else None, batch_size, seed, rank, world, self.flip
        )

    def images(self, split: str, count: int | None = None, start: int = 0) -> Iterator[Tensor]:
        images, _ = self.arrays(split)
        images = images[start:][:count]
        for first in range(0, len(images), PIECE):
            yield torch.from_numpy(np.array(images[first : first + PIECE]))

    def examples(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        return self.images(split, count)

    def labels(self, split: str) -> Tensor | None:
        return torch.from_numpy(np.array(self.arrays(split)[1])) if self.num_classes else None


class ParquetData(ArrayData):
    """Parquet files in a folder or a hub repository, decoded once into the cache.

    root   folder with {split}-*.parquet, in it or one level below; None fetches `repo` from the hub
    cache  folder for decoded arrays

    Arrays are kept under the files' bytes, the class's name and the image size: who edits `transform` empties
    the cache or renames the class. Raises UserError for files that are missing or broken.
    """

    source_size: tuple[int, int] | None = None
    """Width and height of every image before the transform, where the data set is known for it."""

    def __init__(self, root: str | None, repo: str, image_size: int, flip: bool, cache: str) -> None:
        super().__init__(image_size, flip)
        self.root, self.repo, self.cache = root, repo, cache
        self._arrays: dict[str, caching.Arrays] = {}

    @abstractmethod
    def transform(self, image: Image) -> Image:
        """A decoded RGB image -> one of the model's size."""

    def check(self) -> None:
        for path in parquet.find(self._root, "train"):
            parquet.columns(path, labelled=self.num_classes > 0)

    def size(self, split: str) -> int:
        return parquet.count(parquet.find(self._root, split))

    def identity(self, split: str) -> str:
        return self._identity(parquet.find(self._root, split))

    @cached_property
    def _root(self) -> Path:
        return parquet.folder(self.root, self.repo)

    def _identity(self, files: list[Path]) -> str:
        transform = f"{type(self).__name__} {self.image_size}"
        return caching.content_hash(files, transform, caching.folder(self.cache))

    def arrays(self, split: str) -> caching.Arrays:
        if split not in self._arrays:
            files = parquet.find(self._root, split)
            folder = caching.folder(self.cache)
            self._arrays[split] = caching.arrays(
                folder, self._identity(files), lambda place: self._build(files, place)
            )
        return self._arrays[split]

    def _build(self, files: list[Path], place: Path) -> None:
        from tqdm import tqdm

        count = parquet.count(files)
        caching.require_space(place, count * math.prod(self.image_shape))
        images = np.lib.format.open_memmap(
            place / "images.npy", mode="w+", dtype=np.uint8, shape=(count, *self.image_shape)
        )
        labels = np.zeros(count, np.int64)

        def decoded(job: tuple[int, Path, int, bytes]) -> None:
            position, path, row, data = job
            image = decode(data, f"{path}, row {row}")
            if self.source_size not in (None, image.size):
                raise UserError(
                    f"{path}, row {row}: the image is {image.width}x{image.height}, and this data set's are "
                    f"{'x'.join(map(str, self.source_size))}. Choose the data= that these files are of."
                )
            images[position] = np.asarray(self.transform(image)).transpose(2, 0, 1)

        def jobs() -> Iterator[tuple[int, Path, int, bytes]]:
            position = 0
            for path in files:
                for row, data, label in parquet.rows(path, labelled=self.num_classes > 0):
                    if self.num_classes and not 0 <= label < self.num_classes:
                        raise UserError(
                            f"{path}, row {row}: label {label} is outside 0 to {self.num_classes - 1}. "
                            "Choose the data= that these files are of."
                        )
                    labels[position] = label
                    yield position, path, row, data
                    position += 1

        bar = tqdm(total=count, unit="img", desc="decoding", disable=None)
        with ThreadPoolExecutor() as pool, bar:
            waiting = jobs()
            while piece := [job for _, job in zip(range(2048), waiting, strict=False)]:
                list(pool.map(decoded, piece))
                bar.update(len(piece))
        images.flush()
        np.save(place / "labels.npy", labels)

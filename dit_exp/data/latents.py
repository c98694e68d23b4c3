"""Latents that task=cache has stored, as a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dit_exp.data import header
from dit_exp.data.feed import ShuffledFeed
from dit_exp.data.resident import ResidentFeed
from dit_exp.data.shard import data_offset, mapped
from dit_exp.errors import UserError
from dit_exp.types.data import Autoencoder, Batch, DataSet


class Latents(DataSet):
    """Batches hold statistics, mapped from the disk; images, for references, are those of the original data.

    root    the cache, a folder that task=cache has written
    images  where the original data lies; None: where it lay when it was encoded
    cache   folder for decoded images of the original data

    build.py sets `original`, which makes the original data set, and checks the autoencoder.
    Raises UserError for a folder that is no cache, is not finished, or is another autoencoder's.
    """

    def __init__(self, root: str, images: str | None = None, cache: str = "~/.cache/dit_exp") -> None:
        self.root, self.places = root, {"root": images, "cache": cache}
        self.folder, self.header = Path(root).expanduser(), header.read(root)
        data = self.header.data
        self.num_classes, self.class_names = data["num_classes"], data["class_names"]
        channels, rows, columns = data["image_shape"]
        self.image_shape, self.held_out = (channels, rows, columns), data["held_out"]
        self.flip = self.header.flips
        self.original: Callable[[], DataSet] | None = None

    def original_config(self) -> dict[str, Any]:
        """The configuration of the original data, with the places of this machine."""
        config = self.header.data["config"]
        return config | {k: v for k, v in self.places.items() if k in config and v is not None}

    def check_autoencoder(self, autoencoder: Autoencoder) -> None:
        made_by = self.header.autoencoder
        if autoencoder.identity() != made_by["identity"]:
            raise UserError(
                f"data.root={self.root} was encoded by another autoencoder: {made_by['choice']} "
                f"{made_by['identity']} there, {autoencoder.identity()} here. Leave autoencoder= out to take "
                "the cache's own, or encode the data again with task=cache."
            )

    def check(self) -> None:
        """Raises UserError where a shard is missing or cut short. Reads no latent and maps none."""
        for split in self.header.splits:
            count = self.header.shards(split)
            paths = [header.shard_path(self.folder, split, number) for number in range(count)]
            whole = [path for path in paths if path.exists()]
            if len(whole) < count or self.header.normalised is None:
                raise UserError(
                    f"data.root={self.root} is not finished: it has {len(whole)} of {count} shards of "
                    f"{split}. Run its task=cache command again, which goes on."
                )
            for number, path in enumerate(paths):
                data_offset(path, self.header.array(split, number), self.header.dtype)

    def size(self, split: str) -> int:
        return self._split(split)["count"]

    def identity(self, split: str) -> str:
        """The original images'."""
        return self._split(split)["identity"]

    def labels(self, split: str) -> Tensor | None:
        return torch.from_numpy(self._labels(split)) if self.num_classes else None

    def train(self, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> LatentFeed:
        self.check()
        labels = self._labels("train") if self.num_classes else None
        return LatentFeed(self.shards("train"), labels, batch_size, seed, rank, world, self.flip)

    def examples(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        self.check()
        left = self.size(split) if count is None else count
        for shard in self.shards(split):
            if left > 0:
                yield torch.from_numpy(np.array(shard[:left, 0]))
            left -= len(shard)

    def images(self, split: str, count: int | None = None, start: int = 0) -> Iterator[Tensor]:
        if self._original.identity(split) != self.identity(split):
            raise UserError(
                f"data.root={self.root} was encoded from other images than those of its {split} split are "
                "today. Pass data.images=DIR that holds the images it was made from, or encode them again."
            )
        return self._original.images(split, count, start)

    def shards(self, split: str) -> list[np.ndarray]:
        """Mapped arrays (n, 1 or 2, C, h, w). Raises UserError where one is missing or cut short."""
        self._split(split)
        return [
            mapped(
                header.shard_path(self.folder, split, number),
                self.header.array(split, number),
                self.header.dtype,
            )
            for number in range(self.header.shards(split))
        ]

    @cached_property
    def _original(self) -> DataSet:
        if self.original is None:
            raise RuntimeError("build.py tells what the original data are.")
        return self.original()

    def _labels(self, split: str) -> np.ndarray:
        self._split(split)
        path = header.labels_path(self.folder, split)
        try:
            return np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{path} cannot be read ({error}). Run the cache's task=cache command again, which writes it."
            ) from error

    def _split(self, split: str) -> dict[str, Any]:
        if split not in self.header.splits:
            raise UserError(
                f"data.root={self.root} has no split {split!r}, only {', '.join(self.header.splits)}. Encode "
                "the data again with task.held_out=true."
            )
        return self.header.splits[split]


class LatentFeed(ShuffledFeed):
    """From shards of (n, 1 or 2, C, h, w), all of one size but the last; the second of a pair is mirrored."""

    def __init__(
        self,
        shards: list[np.ndarray],
        labels: np.ndarray | None,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
        flip: bool,
    ) -> None:
        super().__init__(sum(map(len, shards)), labels, batch_size, seed, rank, world, flip)
        self.shards = shards

    def batches(self, start: int = 0) -> Iterator[Batch]:
        each = len(self.shards[0])
        for index, mirrored in self.positions(start):
            drawn = zip(*np.divmod(index, each), mirrored.astype(int), strict=True)
            yield self.batch(index, np.stack([self.shards[s][row, side] for s, row, side in drawn]))

    def on(self, device: torch.device) -> ResidentFeed:
        return ResidentFeed(self.shards, self.labels, self.positions, sided, device)


def sided(latents: Tensor, index: Tensor, mirrored: Tensor) -> Tensor:
    """Latents (N, 1 or 2, C, h, w) -> those of `index` (B,), the second of a pair where `mirrored` (B,)."""
    return latents[index, mirrored.long()]

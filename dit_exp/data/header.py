"""What a cache of latents says of itself, and where its files lie.

header.json; {split}-labels.npy; {split}-00000.npy and so on, each of `shard` images: (n, 1 or 2, C, h, w),
the second of each pair from the mirrored image. A shard has its name only when it is whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dit_exp.errors import UserError

FILE = "header.json"


@dataclass(frozen=True)
class Header:
    """autoencoder   choice, config, identity, stochastic, latent_shape
    data             choice, config, image_shape, num_classes, class_names, held_out
    splits           of each its identity, which also holds the transform, and its count of images
    shape            of the statistics of one image
    flips            whether those of the mirrored image are stored too
    normalised       mean and standard deviation of each channel of what a model sees, measured at the end;
                     None until all is encoded
    """

    autoencoder: dict[str, Any]
    data: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    shape: list[int]
    flips: bool
    dtype: str
    shard: int
    normalised: dict[str, list[float]] | None = None

    def shards(self, split: str) -> int:
        return -(-self.splits[split]["count"] // self.shard)

    def images(self, split: str, number: int) -> range:
        """The images of a shard."""
        start = number * self.shard
        return range(start, min(start + self.shard, self.splits[split]["count"]))

    def array(self, split: str, number: int) -> tuple[int, ...]:
        """The shape of a shard."""
        return (len(self.images(split, number)), 2 if self.flips else 1, *self.shape)

    def nbytes(self) -> int:
        """Bytes of all shards together."""
        count = sum(split["count"] for split in self.splits.values())
        return count * (2 if self.flips else 1) * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def differences(self, other: Header) -> list[str]:
        """In what another cache's content differs, a line each. Where things lie is no difference."""
        a, b = self._content(), other._content()
        return [f"{key}: {b.get(key)} there, {a.get(key)} here" for key in a | b if a.get(key) != b.get(key)]

    def _content(self) -> dict[str, Any]:
        splits = {f"{name} {key}": value for name, of in self.splits.items() for key, value in of.items()}
        own = {key: getattr(self, key) for key in ("shape", "flips", "dtype", "shard")}
        return {"autoencoder": self.autoencoder["identity"], **splits, **own}

    def measured(self, mean: list[float], std: list[float]) -> Header:
        return replace(self, normalised={"mean": mean, "std": std})

    def write(self, folder: Path) -> None:
        part = folder / f"{FILE}.part"
        part.write_text(json.dumps(asdict(self), indent=2) + "\n")
        part.replace(folder / FILE)


def shard_path(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.npy"


def labels_path(folder: Path, split: str) -> Path:
    return folder / f"{split}-labels.npy"


def read(root: str) -> Header:
    """The header of a cache. Raises UserError for a folder that is none."""
    path = Path(root).expanduser() / FILE
    try:
        return Header(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"data.root={root} is no cache of latents: {path} cannot be read ({error}). Make one with "
            "task=cache cache.path=DIR."
        ) from error

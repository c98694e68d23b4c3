"""Handwritten digits that come with scikit-learn: no files, no network."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dit_exp.data.arrays import ArrayData
from dit_exp.data.cache import Arrays
from dit_exp.data.picture import resized
from dit_exp.errors import UserError

SPLITS = {"train": slice(0, 1500), "test": slice(1500, None)}


def scans() -> Arrays:
    """Grey values from 0 to 16, (1797, 8, 8), and digits (1797,), from the file that scikit-learn brings.

    Its own loader imports SciPy's statistics and pandas: a quarter of the time to a first training step.
    """
    found = find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations is not None
    path = Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


@lru_cache(maxsize=4)
def drawn(image_size: int) -> Arrays:
    """All images and classes in a fixed order, kept for the other runs of a sweep."""
    from PIL import Image

    values, classes = scans()
    order = np.random.default_rng(0).permutation(len(values))
    grey = np.rint(values[order] * (255 / 16)).astype(np.uint8)
    images = np.stack([np.asarray(resized(Image.fromarray(scan), image_size)) for scan in grey])
    return images[:, None].repeat(3, axis=1), classes[order]


class Digits(ArrayData):
    """1,797 scans of 8x8, resized, as three equal channels; splits train (1,500) and test (297).

    Source: Alpaydin & Kaynak 1998, UCI "Optical recognition of handwritten digits".
    """

    num_classes = 10
    class_names = tuple("0123456789")

    def __init__(self, image_size: int = 16, flip: bool = False) -> None:
        super().__init__(image_size, flip)

    def check(self) -> None:
        """Nothing can be missing."""

    def identity(self, split: str) -> str:
        return hashlib.sha256(b"".join(part.tobytes() for part in self.arrays(split))).hexdigest()[:16]

    def arrays(self, split: str) -> Arrays:
        images, labels = drawn(self.image_size)
        if split not in SPLITS:
            raise UserError(f"data=digits has no split {split!r}. Choose one of {', '.join(SPLITS)}.")
        return images[SPLITS[split]], labels[SPLITS[split]]

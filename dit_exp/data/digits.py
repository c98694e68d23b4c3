"""Handwritten digits that come with scikit-learn: no files, no network."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np

from dit_exp.data.arrays import ArrayData
from dit_exp.data.cache import Arrays
from dit_exp.data.picture import resized
from dit_exp.errors import UserError

SPLITS = {"train": slice(0, 1500), "test": slice(1500, None)}


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
        images, labels = self._all
        if split not in SPLITS:
            raise UserError(f"data=digits has no split {split!r}. Choose one of {', '.join(SPLITS)}.")
        return images[SPLITS[split]], labels[SPLITS[split]]

    @cached_property
    def _all(self) -> Arrays:
        from PIL import Image
        from sklearn.datasets import load_digits

        scans, classes = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(scans))
        grey = np.rint(scans[order].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        images = np.stack([np.asarray(resized(Image.fromarray(scan), self.image_size)) for scan in grey])
        return images[:, None].repeat(3, axis=1), np.asarray(classes, np.int64)[order]

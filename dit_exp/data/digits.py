"""Handwritten digits that come with scikit-learn: no files, no network."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dit_exp.data.arrays import ArrayData, resized
from dit_exp.data.cache import Arrays

TRAIN = 1500


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
        return f"digits-{split}-{self.image_size}"

    def arrays(self, split: str) -> Arrays:
        images, labels = self._all
        part = slice(0, TRAIN) if split == "train" else slice(TRAIN, None)
        return images[part], labels[part]

    @cached_property
    def _all(self) -> Arrays:
        from PIL import Image
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.images))
        grey = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)
        scans = [np.asarray(resized(Image.fromarray(scan), self.image_size)) for scan in grey]
        return np.stack(scans)[:, None].repeat(3, axis=1), digits.target[order].astype(np.int64)

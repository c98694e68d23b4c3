"""CIFAR-10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dit_exp.data.arrays import ParquetData
from dit_exp.data.picture import resized

if TYPE_CHECKING:
    from PIL.Image import Image


class Cifar(ParquetData):
    """60,000 images of 32x32 in ten classes; splits train (50,000) and test (10,000).

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    source_size = (32, 32)
    num_classes = 10
    class_names = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def __init__(
        self,
        root: str | None = None,
        repo: str = "uoft-cs/cifar10",
        image_size: int = 32,
        flip: bool = True,
        cache: str = "~/.cache/dit_exp",
    ) -> None:
        super().__init__(root, repo, image_size, flip, cache)

    def transform(self, image: Image) -> Image:
        return resized(image, self.image_size)

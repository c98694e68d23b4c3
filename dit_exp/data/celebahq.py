"""CelebA-HQ: faces without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dit_exp.data.arrays import ParquetData
from dit_exp.data.picture import centre_square, resized

if TYPE_CHECKING:
    from PIL.Image import Image


class CelebaHQ(ParquetData):
    """Faces, cropped to the centre square and resized; splits train and validation.

    Source: Karras et al. 2017, arXiv:1710.10196.
    """

    num_classes = 0
    class_names = ()
    held_out = "validation"

    def __init__(
        self,
        root: str | None = None,
        repo: str = "korexyz/celeba-hq-256x256",
        image_size: int = 128,
        flip: bool = True,
        cache: str = "~/.cache/dit_exp",
    ) -> None:
        super().__init__(root, repo, image_size, flip, cache)

    def transform(self, image: Image) -> Image:
        return resized(centre_square(image), self.image_size)

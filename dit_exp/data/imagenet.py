"""ImageNet, 1000 classes."""

from __future__ import annotations

from dit_exp.data import parquet
from dit_exp.data.encoded import ClassFolders, Encoded, Shards
from dit_exp.data.folder import split_folder
from dit_exp.data.streamed import StreamedData
from dit_exp.errors import UserError


class ImageNet(StreamedData):
    """1,281,167 images to train on and 50,000 to test on, cropped as ADM does.

    root  a folder with train/CLASS/*.JPEG and validation/CLASS/*.JPEG (or val), or one with the hub's
          train-*.parquet and validation-*.parquet; None fetches `repo` from the hub

    A class is known by its number, the place of its folder's name among the sorted thousand.
    Source: Russakovsky et al. 2014, arXiv:1409.0575. Raises UserError for other than 1000 class folders.
    """

    num_classes = 1000
    class_names = tuple(map(str, range(1000)))
    held_out = "validation"

    def __init__(
        self,
        root: str | None = None,
        repo: str = "ILSVRC/imagenet-1k",
        image_size: int = 256,
        flip: bool = True,
    ) -> None:
        super().__init__(image_size, flip)
        self.root, self.repo = root, repo

    def find(self, split: str) -> Encoded:
        folder = split_folder(self.root, split) if self.root is not None else None
        if folder is None:
            return Shards(parquet.find(parquet.folder(self.root, self.repo), split), labelled=True)
        found = ClassFolders(folder)
        if len(found.names) != self.num_classes:
            raise UserError(
                f"{folder} has {len(found.names)} class folders, and ImageNet has {self.num_classes}. Use "
                "data=folder for another data set."
            )
        return found

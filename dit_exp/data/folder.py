"""Images of your own in class folders."""

from __future__ import annotations

from pathlib import Path

from dit_exp.data.encoded import ClassFolders
from dit_exp.data.streamed import StreamedData
from dit_exp.errors import UserError

OTHERS = ("validation", "val", "test")
"""Names of folders that hold a split and no class."""


class Folder(StreamedData):
    """root/train/CLASS/*.png and root/validation/CLASS/*.png; or root/CLASS/*.png with nothing held out.

    Without class folders, the images have no classes. Read as they are asked for, cropped as ADM does.
    Raises UserError for a folder that is missing, or empty, or whose splits differ in classes, and for splits
    of which none is called train.
    """

    held_out = "validation"

    def __init__(self, root: str, image_size: int = 256, flip: bool = True) -> None:
        super().__init__(image_size, flip)
        self.root = root
        folder = split_folder(root, "train")
        if folder is None and (others := [name for name in OTHERS if (existing(root) / name).is_dir()]):
            raise UserError(
                f"data.root={root} has a folder {others[0]} and none that is called train, so its splits "
                "would be taken for classes. Call the folder of the images to train on train."
            )
        self._train = ClassFolders(folder or existing(root))
        self.class_names = tuple(self._train.names)
        self.num_classes = len(self.class_names)

    def find(self, split: str) -> ClassFolders:
        if split == "train":
            return self._train
        folder = split_folder(self.root, split)
        if folder is None:
            raise UserError(
                f"data.root={self.root} has no folder {split}, so nothing is held out. Put images into "
                f"{self.root}/train and {self.root}/{split}."
            )
        found = ClassFolders(folder)
        if found.names != self._train.names:
            differing = sorted(set(found.names) ^ set(self._train.names))
            raise UserError(
                f"data.root={self.root}: train and {folder.name} have other class folders, among them "
                f"{', '.join(differing[:3])}. Give both the same."
            )
        return found


def existing(root: str) -> Path:
    """The folder data.root. Raises UserError where it is none."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise UserError(f"data.root={root} is not a folder. Pass data.root=DIR that holds class folders.")
    return path


def split_folder(root: str, split: str) -> Path | None:
    """The folder of a split, where there is one; `val` is also taken for validation."""
    names = ("validation", "val") if split == "validation" else (split,)
    return next((existing(root) / name for name in names if (existing(root) / name).is_dir()), None)

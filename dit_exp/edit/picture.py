"""Pictures from files, at the size that a model draws."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dit_exp.data.picture import centre_square, resized
from dit_exp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


def read(path: str, key: str, size: int) -> Tensor:
    """A picture file -> uint8 (1, 3, size, size): its central square, resized; a line in the log says so.

    key  of the configuration, for messages. Raises UserError for a file that is missing or no picture.
    """
    image = opened(path, key).convert("RGB")
    if image.size != (size, size):
        log.info(
            "%s is %dx%d: its central square is taken and resized to %dx%d.", path, *image.size, size, size
        )
    return tensor(resized(centre_square(image), size))


def read_mask(path: str, key: str, size: int, beside: str) -> Tensor:
    """A mask file, white or black, -> uint8 (1, 3, size, size) of 255 and 0.

    A mask of the size of the picture file `beside` is cropped and resized as that one is, to the nearest
    pixel. One of size x size is taken as it is. Raises UserError for any other.
    """
    from PIL.Image import Resampling

    mask, whose = opened(path, key).convert("L"), opened(beside, "edit.image").size
    if mask.size not in (whose, (size, size)):
        raise UserError(
            f"{key}={path} is {mask.width}x{mask.height}. A mask must have the size of the image, "
            f"{whose[0]}x{whose[1]}, or of what the model draws, {size}x{size}."
        )
    squared = centre_square(mask).resize((size, size), Resampling.NEAREST)
    return (tensor(squared.convert("RGB")) > 127).to(torch.uint8) * 255


def opened(path: str, key: str) -> Image:
    """A decoded file. Raises UserError for one that is missing or no picture."""
    from PIL import Image, UnidentifiedImageError

    if not Path(path).is_file():
        raise UserError(f"{key}={path} is no file. Pass {key}=FILE.png.")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{key}={path} cannot be read as a picture ({error}). Pass a PNG file.") from error


def tensor(image: Image) -> Tensor:
    """RGB -> uint8 (1, 3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]

"""One encoded image: decoded to RGB, cropped, resized."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from dit_exp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


def decode(data: bytes, where: str) -> Image:
    """One image as RGB: of one channel three equal ones, without alpha, CMYK converted, 16 bits scaled to 8.

    where  the file, and its row, for the message
    Raises UserError for an image that cannot be read, and for 32 bits in a channel, whose white is not known.
    """
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data))
        if image.mode.startswith("I;16"):  # Pillow would clip at 255
            grey = np.asarray(image).astype(np.float32) / 257
            image = Image.fromarray(np.rint(grey).astype(np.uint8))
        if image.mode not in ("I", "F"):
            return image.convert("RGB")
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{where}: the image cannot be decoded ({error}). Fetch the file again or take it out."
        ) from error
    raise UserError(
        f"{where}: the image has 32 bits in a channel (Pillow's mode {image.mode}), and which number is "
        "white is not known. Save it with 8 or 16 bits."
    )


def resized(image: Image, size: int) -> Image:
    """The image at size x size, bicubic with antialiasing; as it is where it has that size already."""
    from PIL.Image import Resampling

    return image if image.size == (size, size) else image.resize((size, size), Resampling.BICUBIC)


def centre_square(image: Image) -> Image:
    """The largest centred square of an image."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def adm_crop(image: Image, size: int) -> Image:
    """The central square at size x size: halved by a box filter while the short side is at least twice as
    long, then bicubic. Source: Dhariwal & Nichol 2021, arXiv:2105.05233.
    """
    from PIL.Image import Resampling

    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))

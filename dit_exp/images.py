"""Between uint8 images and the model's range [-1, 1], and pictures for people.

Rounding, not truncation, brings a value back, so all 256 grey levels survive the round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def to_model_range(image: Tensor) -> Tensor:
    """uint8 (any shape) -> float32 in [-1, 1]."""
    return image.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(image: Tensor) -> Tensor:
    """Float in [-1, 1] (any shape; values outside are clamped) -> uint8, rounded."""
    return image.float().clamp(-1, 1).add(1).mul(127.5).round_().to(torch.uint8)


def save_png(image: Tensor, path: Path) -> None:
    """Writes one uint8 image (1 or 3, H, W)."""
    from PIL import Image

    array = image.permute(1, 2, 0).cpu().numpy()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(path)


def save_grid(
    images: Tensor,
    path: Path,
    columns: int,
    labels: Sequence[str] | None = None,
    scale: int | None = None,
    rows: Sequence[str] | None = None,
) -> None:
    """Writes uint8 images (N, 1 or 3, H, W) as a grid, each `labels` entry as text below its image.

    `scale` enlarges each pixel to a square; by default small images grow to about 64 pixels. Each entry of
    `rows` stands to the left of its row.
    """
    from PIL import Image, ImageDraw

    count, channels, height, width = images.shape
    scale = scale or max(1, 64 // height)
    strip = 12 if labels else 0
    cell_h, cell_w = height * scale + strip + 2, width * scale + 2
    margin = 6 * max(map(len, rows)) + 4 if rows else 0
    sheet = Image.new("RGB", (margin + columns * cell_w, -(-count // columns) * cell_h), "white")
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(rows or ()):
        draw.text((2, i * cell_h + height * scale // 2 - 5), text, fill="black")
    arrays = images.expand(-1, 3, -1, -1) if channels == 1 else images
    for i, array in enumerate(arrays.permute(0, 2, 3, 1).cpu().numpy()):
        left, top = margin + (i % columns) * cell_w + 1, (i // columns) * cell_h + 1
        picture = Image.fromarray(array).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top))
        if labels:
            draw.text((left, top + height * scale), labels[i][: cell_w // 6], fill="black")
    sheet.save(path)

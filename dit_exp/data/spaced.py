"""Some images of a split, from all over it: files may be ordered by class, and the first are of a few."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dit_exp.types.data import DataSet

BLOCK = 20
"""Images that are taken together: of what lies together in a file, one alone costs as much to read."""


def blocks(size: int, count: int) -> Iterator[range]:
    """`count` of `size` numbers, in order, in blocks of at most 20 with equal gaps between; all, where
    there are no more.
    """
    count = min(count, size)
    number = -(-count // BLOCK)
    for block in range(number):
        first, last = (index * count // number for index in (block, block + 1))
        start = first + block * (size - count) // max(1, number - 1)
        yield range(start, start + last - first)


def images(data: DataSet, split: str, count: int, together: int) -> Iterator[Tensor]:
    """The images of those numbers, `together` at a time: uint8 (b, C, H, W)."""
    waiting: list[Tensor] = []
    for block in blocks(data.size(split), count):
        for piece in data.images(split, len(block), block.start):
            waiting += piece
        while len(waiting) >= together:
            yield torch.stack(waiting[:together])
            del waiting[:together]
    if waiting:
        yield torch.stack(waiting)

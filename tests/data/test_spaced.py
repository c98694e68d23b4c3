"""Which images stand for a split: so many, once each, in order, from all over it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from dit_exp.data import spaced


class Numbers:
    """Image i is of grey level i; pieces are of three at most, as a data set may cut them."""

    def __init__(self, size: int) -> None:
        self.length = size

    def size(self, split: str) -> int:
        return self.length

    def images(self, split: str, count: int, start: int):
        whole = torch.arange(self.length, dtype=torch.uint8)[start : start + count]
        yield from whole[:, None, None, None].expand(-1, 3, 2, 2).split(3)


@pytest.mark.parametrize(
    ("size", "count"),
    [(1000, 1), (1000, 20), (1000, 199), (1000, 999), (1_281_167, 10_000), (57, 57), (7, 9)],
)
def test_so_many_numbers_once_each_in_order_and_blocks_with_equal_gaps(size: int, count: int):
    blocks = list(spaced.blocks(size, count))
    numbers = [number for block in blocks for number in block]
    assert len(numbers) == len(set(numbers)) == min(size, count)
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] < size
    assert max(map(len, blocks)) <= spaced.BLOCK
    gaps = [after.start - before.stop for before, after in pairwise(blocks)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    if len(blocks) > 1:
        assert numbers[-1] == size - 1  # the last class has its share


def test_a_split_in_the_order_of_its_classes_is_seen_in_all_of_them():
    labels = torch.arange(1000).repeat_interleave(50)  # as ImageNet's held-out images in class folders
    seen = labels[[number for block in spaced.blocks(50_000, 10_000) for number in block]]
    assert len(seen.unique()) >= 500  # the first 10,000 are of 200
    few = labels[[number for block in spaced.blocks(50_000, 1_000) for number in block]]
    assert len(few.unique()) >= 50


def test_images_come_in_pieces_of_one_size():
    pieces = list(spaced.images(Numbers(200), "train", 50, 8))
    assert [len(piece) for piece in pieces] == [8, 8, 8, 8, 8, 8, 2]
    expected = [number for block in spaced.blocks(200, 50) for number in block]
    assert torch.cat(pieces)[:, 0, 0, 0].tolist() == expected
    assert expected != list(range(50))

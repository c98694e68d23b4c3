"""The images between those of two seeds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dit_exp.edit.studio import Studio, at_least


class Interpolate:
    """Samples whose noise turns from that of image `first` to that of image `last`, by equal angles.

    Image numbers are those of task=sample with the same seed. All images share the label, and what a
    stochastic sampler draws on the way is image `first`'s in all of them.
    count  images, both ends among them
    """

    def __init__(self, first: int = 0, last: int = 1, count: int = 8) -> None:
        self.first, self.last = at_least("first", first, 0), at_least("last", last, 0)
        self.count = at_least("count", count, 2)

    def prepare(self, studio: Studio) -> tuple[()]:
        """There is nothing to read."""
        return ()

    def __call__(self, studio: Studio) -> Tensor:
        draw = studio.noise([self.first] * self.count)
        ends = draw()[:1], studio.noise([self.last])()
        x = studio.process.prior_scale * between(*ends, self.count)
        return studio.decode(studio.sample(x, draw))


def between(start: Tensor, end: Tensor, count: int) -> Tensor:
    """`count` points (count, C, h, w) from start to end, (1, C, h, w) each: the direction turns by equal
    angles, the length changes evenly. Normal noise of many dimensions stays as long as noise is.

    Source: Shoemake 1985 for the direction. Where start and end point the same way that is a straight line.
    """
    lengths = start.norm(), end.norm()
    a, b = start / lengths[0], end / lengths[1]
    angle = math.acos(float((a * b).sum().clamp(-1, 1)))
    share = torch.linspace(0, 1, count, dtype=start.dtype, device=start.device).reshape(-1, 1, 1, 1)
    length = torch.lerp(*lengths, share)
    if math.sin(angle) < 1e-6:
        return length * torch.lerp(a, b, share)
    turned = torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b
    return length * turned / math.sin(angle)

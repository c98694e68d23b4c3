"""Blocks kept for as long as what they give stays alike, by measurement."""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.reuse.plan import Alike, Sharing


class Planned(Sharing):
    """The runs that keep what is most alike, over all ways to place as many.

    images  how many are drawn, with all blocks at every evaluation, to measure how alike two evaluations are
    Source: Wang et al. 2025, arXiv:2504.05741.
    """

    def __init__(self, ratio: float, depth: int | None = None, images: int = 8) -> None:
        super().__init__(ratio, depth)
        if images < 1:
            raise ValueError(f"sampler.reuse.images={images} must be at least 1.")
        self.images = images

    def likeness(self, total: int, alike: Alike) -> Tensor:
        return alike(self.depth, self.images)

"""Finite scalar quantisation: every number of a latent is rounded to one of a few levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dit_exp.autoencoder.convolutional import Convolutional


class FSQ(Convolutional):
    """A channel for each of `levels`; their product is the number of codes, none is learned and none dies.

    The model sees what stands before the rounding; `decode` rounds it, once. Source: Mentzer et al. 2023,
    arXiv:2309.15505.
    """

    def __init__(
        self,
        levels: Sequence[int] = (8, 8, 8, 16),
        widths: Sequence[int] = (128, 256, 384),
        layers: int = 2,
        attention: bool = False,
        groups: int = 32,
        checkpoint: str | None = None,
    ) -> None:
        if not levels or min(levels) < 3:
            raise ValueError(f"autoencoder.levels={list(levels)} must be 3 or more each.")
        from vector_quantize_pytorch import FSQ as Rounding

        super().__init__({"levels": list(levels)}, len(levels), widths, layers, attention, groups, checkpoint)
        self.codebook_size = math.prod(levels)
        self.quantizer = Rounding(list(levels))
        self.load()

    def bottleneck(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        with torch.autocast(raw.device.type, enabled=False):
            z, codes = self.quantizer(raw.float())
        return z, z.new_zeros(len(z)), codes.long()

    def quantized(self, raw: Tensor) -> Tensor:
        return self.bottleneck(raw)[0]

"""How far apart two images are to a network: the differences of its normalised features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def differences(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
    """Layers of features (B, C, h, w) -> squared differences (B, C, h, w) of unit vectors along C."""
    return [(unit(a) - unit(b)).square() for a, b in zip(one, other, strict=True)]


def unit(features: Tensor) -> Tensor:
    """Each place's features at length 1. The square root of 0 would have an infinite slope."""
    features = features.float()
    return features * torch.rsqrt(features.square().sum(1, keepdim=True) + 1e-10)

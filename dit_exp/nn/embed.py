"""Embeddings of time, class and position."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dit_exp.nn.linear import Linear


def sinusoid(t: Tensor, size: int, max_period: float = 10_000.0) -> Tensor:
    """(B,) -> float32 (B, size): cosines, then sines, at size/2 frequencies from 1 down to 1/max_period.

    Always in float32: in bfloat16 neighbouring steps of a thousand share one embedding.
    """
    half = size // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(max_period) / half)
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """(B,) -> (B, width): sinusoid, linear, SiLU, linear. Source: Peebles & Xie 2022, arXiv:2212.09748.

    scale  what t is multiplied by first, for a model whose frequencies are meant for another range of t
    """

    def __init__(
        self, width: int, frequencies: int = 256, max_period: float = 10_000.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.max_period = max_period
        self.scale = scale
        self.inner = Linear(frequencies, width)
        self.outer = Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        wave = sinusoid(self.scale * t, self.frequencies, self.max_period)
        return self.outer(nn.functional.silu(self.inner(wave.to(self.inner.weight.dtype))))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.inner.weight, std=0.02)
        nn.init.normal_(self.outer.weight, std=0.02)


class Sinusoid(nn.Module):
    """(B,) -> (B, width): the sinusoid as it is, in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, t: Tensor) -> Tensor:
        return sinusoid(t, self.width)

    def reset_parameters(self) -> None:
        """It has none."""


class LabelEmbedding(nn.Module):
    """(B,) int64 -> (B, width). With `null` the table has one more row, `null_label`, for "no class"."""

    def __init__(self, classes: int, width: int, null: bool) -> None:
        super().__init__()
        self.null_label = classes if null else None
        self.table = nn.Embedding(classes + int(null), width)

    def forward(self, label: Tensor) -> Tensor:
        return self.table(label)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table.weight, std=0.02)


class AugmentationEmbedding(nn.Linear):
    """(B, entries) -> (B, width), without bias: of zeros it makes zeros, which is "nothing was done"."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__(entries, width, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)


def sincos_2d(rows: int, columns: int, width: int) -> Tensor:
    """Fixed position table, float32 (1, rows columns, width).

    The first half of the channels encodes the column, the second the row, each as sines then cosines.
    Raises ValueError if width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width={width} must be a multiple of 4 for the 2-D position table.")

    def axis(length: int) -> Tensor:
        omega = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
        angles = torch.arange(length, dtype=torch.float64)[:, None] * omega
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    by_column = axis(columns).repeat(rows, 1)
    by_row = axis(rows).repeat_interleave(columns, dim=0)
    return torch.cat([by_column, by_row], dim=1)[None].float()

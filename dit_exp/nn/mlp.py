"""The feed-forward half of a transformer block."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, x / 2 (1 + tanh u) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).

    Compiled it is written with the sigmoid, whose exponential takes a CPU half the time of a tanh.
    """
    if not torch.compiler.is_compiling():
        return functional.gelu(x, approximate="tanh")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.sigmoid(math.sqrt(8 / math.pi) * (wide + 0.044715 * wide**3))).to(x.dtype)


class Mlp(nn.Module):
    """(B, N, width) -> (B, N, width): linear, GELU (tanh form), linear."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(gelu(self.inner(x)))


class SwiGLU(nn.Module):
    """(B, N, width) -> (B, N, width): outer(silu(gate x) * inner x).

    Two thirds as wide inside as the Mlp of the same ratio, so that both have equally many parameters.
    Source: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, width: int, ratio: float, bias: bool = False) -> None:
        super().__init__()
        hidden = int(2 / 3 * width * ratio)
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.inner = nn.Linear(width, hidden, bias=bias)
        self.outer = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(functional.silu(self.gate(x)) * self.inner(x))

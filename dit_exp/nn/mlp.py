"""The feed-forward half of a transformer block."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dit_exp.nn.linear import Linear


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
        self.inner = Linear(width, hidden)
        self.outer = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner.gelu(x)
        return self.outer(gelu(self.inner(x)) if inner is None else inner)


class SwiGLU(nn.Module):
    """(B, N, width) -> (B, N, width): outer(silu(gate x) * inner x).

    Two thirds as wide inside as the Mlp of the same ratio, so that both have equally many parameters.
    Source: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, width: int, ratio: float, bias: bool = False) -> None:
        super().__init__()
        hidden = int(2 / 3 * width * ratio)
        self.gate = Linear(width, hidden, bias=bias)
        self.inner = Linear(width, hidden, bias=bias)
        self.outer = Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(functional.silu(self.gate(x)) * self.inner(x))

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


def linear_gelu(linear: nn.Linear, x: Tensor) -> Tensor:
    """gelu(linear(x)).

    Where nothing is compiled and no gradient is wanted, a CPU does both in one pass in bfloat16, torch's GELU
    being half as long as the product itself. The sum is rounded once and not twice.
    """
    if not one_pass(x):
        return gelu(linear(x))
    x, weight = x.to(torch.bfloat16), linear.weight.to(torch.bfloat16)
    bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")


def one_pass(x: Tensor) -> bool:
    """Whether x (B, N, width) is about to go through a product in bfloat16 that oneDNN ends with a GELU."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class Mlp(nn.Module):
    """(B, N, width) -> (B, N, width): linear, GELU (tanh form), linear."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(linear_gelu(self.inner, x))


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

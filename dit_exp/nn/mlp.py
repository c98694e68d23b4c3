"""The feed-forward half of a transformer block."""

from __future__ import annotations

from torch import Tensor, nn


class Mlp(nn.Module):
    """(B, N, width) -> (B, N, width): linear, GELU (tanh form), linear."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(nn.functional.gelu(self.inner(x), approximate="tanh"))


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
        return self.outer(nn.functional.silu(self.gate(x)) * self.inner(x))

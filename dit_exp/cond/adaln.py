"""adaLN-Zero: time and label shift, scale and gate every block, and at the start every gate is closed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dit_exp.types import Modulation


class AdaLNZero(nn.Module):
    """Six modulation vectors a block and two for the head, each a linear function of SiLU(c).

    The condition c is the sum of its parts, (B, 1 or N, width). All of it starts at zero, so at first each
    block is the identity and the output is 0. Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, 6 * width) for _ in range(depth))
        self.head = nn.Linear(width, 2 * width)

    def join(self, x: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return x, torch.stack(tuple(parts)).sum(0) if len(parts) > 1 else parts[0]

    def block(self, i: int, c: Tensor) -> tuple[Modulation, Modulation]:
        values = self.blocks[i](silu(c)).chunk(6, dim=-1)
        return Modulation(*values[:3]), Modulation(*values[3:])

    def final(self, c: Tensor) -> Modulation:
        return Modulation(*self.head(silu(c)).chunk(2, dim=-1))

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

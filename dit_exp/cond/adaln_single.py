"""adaLN-single: one modulation for all blocks, and a table of its own for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dit_exp.nn.linear import Linear
from dit_exp.types.network import Conditioning, Modulation


class AdaLNSingle(Conditioning):
    """The six vectors of every block are one linear function of SiLU(c) plus the block's own six vectors.

    That saves about a third of a DiT's parameters. All of it starts at zero, as in adaLN-Zero. Source: Chen
    et al. 2023, arXiv:2310.00426 (PixArt-alpha), whose tables start at random.
    """

    def __init__(self, width: int, depth: int, final: bool = True) -> None:
        super().__init__(width, depth, final)
        self.shared = Linear(width, 6 * width)
        self.tables = nn.Parameter(torch.zeros(depth, 6 * width))
        self.head = Linear(width, 2 * width) if final else None

    def block(self, i: int, c: Tensor) -> tuple[Modulation, Modulation]:
        values = (self.shared(silu(c)) + self.tables[i]).chunk(6, dim=-1)
        return Modulation(*values[:3]), Modulation(*values[3:])

    def final(self, c: Tensor) -> Modulation:
        return Modulation(*self.head(silu(c)).chunk(2, dim=-1)) if self.head else Modulation()

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

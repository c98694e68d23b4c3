"""adaLN-Zero: time and label shift, scale and gate every block, and at the start every gate is closed."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from dit_exp.nn.linear import Linear
from dit_exp.types.network import Conditioning, Modulation


class AdaLNZero(Conditioning):
    """Six modulation vectors a block and two for the head, each a linear function of SiLU(c).

    The condition c is the sum of its parts, (B, 1 or N, width). All of it starts at zero, so at first each
    block is the identity and the output is 0. Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    vectors = 6

    def __init__(self, width: int, depth: int, final: bool = True) -> None:
        super().__init__(width, depth, final)
        self.blocks = nn.ModuleList(Linear(width, self.vectors * width) for _ in range(depth))
        self.head = Linear(width, 2 * width) if final else None

    def block(self, i: int, c: Tensor) -> tuple[Modulation, Modulation]:
        values = self.blocks[i](silu(c)).chunk(self.vectors, dim=-1)
        half = self.vectors // 2
        return Modulation(*values[:half]), Modulation(*values[half:])

    def final(self, c: Tensor) -> Modulation:
        return Modulation(*self.head(silu(c)).chunk(2, dim=-1)) if self.head else Modulation()

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

"""The pre-norm block that every isotropic model stacks. What conditions it arrives as modulations."""

from __future__ import annotations

from torch import Tensor, nn

from dit_exp.nn.mlp import Mlp
from dit_exp.types import Modulation


class Block(nn.Module):
    """x += gate attn(modulate(norm(x))); x += gate mlp(modulate(norm(x))), for x (B, N, D).

    The norms have no gain of their own; where the modulation is empty, none is applied.
    Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    def __init__(self, width: int, attn: nn.Module, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = attn
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, c: Tensor, for_attn: Modulation, for_mlp: Modulation) -> Tensor:
        x = x + for_attn.gated(self.attn(for_attn.modulate(self.norm1(x)), c))
        return x + for_mlp.gated(self.mlp(for_mlp.modulate(self.norm2(x))))

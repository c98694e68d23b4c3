"""The pre-norm block that every transformer stacks. What conditions it arrives from outside."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dit_exp.types.network import Modulation, SpatialAttention, TokenGrid


class Block(nn.Module):
    """x += gate attn(modulate(norm(x))); x += gate mlp(modulate(norm(x))), for x (B, N, D).

    norm  builds the two norms from the width
    Where the modulation is empty, none is applied. Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    def __init__(self, width: int, attn: nn.Module, mlp: nn.Module, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1 = norm(width)
        self.attn = attn
        self.norm2 = norm(width)
        self.mlp = mlp

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        for_attn: Modulation,
        for_mlp: Modulation,
        grid: TokenGrid,
        between: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """between  what the conditioning does to the tokens after the attention and before the MLP"""
        placed = (grid,) if isinstance(self.attn, SpatialAttention) else ()
        x = x + for_attn.gated(self.attn(for_attn.modulate(self.norm1(x)), c, *placed))
        x = between(x)
        return x + for_mlp.gated(self.mlp(for_mlp.modulate(self.norm2(x))))

"""Cross-attention to time and label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from dit_exp.nn.attention import attention
from dit_exp.nn.heads import divisors
from dit_exp.nn.linear import Linear
from dit_exp.nn.norm import layer_norm
from dit_exp.types.network import Conditioning


class _CrossAttention(nn.Module):
    """x (B, N, D) attends to memory (B, M, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = layer_norm(width)
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q = rearrange(self.query(self.norm(x)), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.key_value(memory), "b m (z h d) -> z b h m d", z=2, h=self.heads)
        return self.out(rearrange(attention(q, k, v), "b h n d -> b n (h d)"))


class CrossAttentionConditioning(Conditioning):
    """Between a block's attention and its MLP the tokens attend to time and label, a sequence of two.

    heads  of the cross-attention, which must divide the model's width
    Source: the "cross-attention" of Peebles & Xie 2022, arXiv:2212.09748, figure 3.
    """

    def __init__(self, width: int, depth: int, final: bool = True, heads: int = 8) -> None:
        super().__init__(width, depth, final)
        if heads < 1 or width % heads:
            raise ValueError(
                f"cond.heads={heads} does not divide the model's width of {width}. Choose one of "
                f"{divisors(width)}."
            )
        self.blocks = nn.ModuleList(_CrossAttention(width, heads) for _ in range(depth))

    def between(self, i: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        return x + self.blocks[i](x, torch.cat(tuple(parts), dim=1))

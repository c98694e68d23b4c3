"""Grouped-query attention: fewer key and value heads than query heads."""

from __future__ import annotations

from torch import Tensor

from dit_exp.nn.heads import Heads


class GroupedQueryAttention(Heads):
    """Self-attention in which `heads // kv_heads` query heads share one key/value head.

    Input and output: (batch, tokens, width); the condition is not used. Query head i reads key/value head
    i // (heads // kv_heads). kv_heads=1 is multi-query attention. qk_norm puts an RMS norm over each head's
    query and key; head_size None is width // heads. Source: Ainslie et al. 2023, arXiv:2305.13245.
    Raises ValueError if `heads % kv_heads`, or without a head_size `width % heads`, is not 0.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int = 2,
        qk_norm: bool = False,
        qkv_bias: bool = True,
        head_size: int | None = None,
    ) -> None:
        super().__init__(width, heads, kv_heads, qk_norm, qkv_bias, head_size)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.attend(*self.split(self.qkv(x)))

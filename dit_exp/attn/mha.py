"""Multi-head attention: every query head has a key/value head of its own."""

from __future__ import annotations

from dit_exp.attn.gqa import GroupedQueryAttention


class MultiHeadAttention(GroupedQueryAttention):
    """Grouped-query attention with as many key/value heads as query heads: fused qkv, SDPA.

    Input and output: (batch, tokens, width). Source: Vaswani et al. 2017, arXiv:1706.03762.
    Raises ValueError if `width % heads` is not 0.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = False, qkv_bias: bool = True) -> None:
        super().__init__(width, heads, heads, qk_norm, qkv_bias)

"""Grouped-query attention: fewer key and value heads than query heads."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class GroupedQueryAttention(nn.Module):
    """Self-attention in which `heads // kv_heads` query heads share one key/value head.

    Input and output: (batch, tokens, width); the condition is not used. Query head i reads key/value head
    i // (heads // kv_heads). kv_heads=1 is multi-query attention. qk_norm puts an RMS norm over each head's
    query and key, which keeps bfloat16 runs from diverging.
    Source: Ainslie et al. 2023, arXiv:2305.13245.
    Raises ValueError if `width % heads` or `heads % kv_heads` is not 0.
    """

    def __init__(self, width: int, heads: int, kv_heads: int = 2, qk_norm: bool = False) -> None:
        super().__init__()
        if heads < 1 or kv_heads < 1:
            raise ValueError(f"model.heads={heads} and attn.kv_heads={kv_heads} must be at least 1.")
        if width % heads:
            raise ValueError(
                f"model.width={width} is not divisible by model.heads={heads}. "
                f"Choose heads that divide the width, such as {_divisors(width)}."
            )
        if heads % kv_heads:
            raise ValueError(
                f"model.heads={heads} is not divisible by attn.kv_heads={kv_heads}. "
                f"Choose attn.kv_heads from {_divisors(heads)}."
            )
        self.heads, self.kv_heads = heads, kv_heads
        size = width // heads
        # Queries, keys and values in one product; the order is the one of published checkpoints.
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * size)
        self.out = nn.Linear(width, width)
        self.q_norm = nn.RMSNorm(size, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(size, eps=1e-6) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        qkv = rearrange(self.qkv(x), "b n (h d) -> b h n d", h=self.heads + 2 * self.kv_heads)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        shared = self.kv_heads != self.heads
        y = scaled_dot_product_attention(q, k, v, enable_gqa=shared)
        return self.out(rearrange(y, "b h n d -> b n (h d)"))


def _divisors(n: int) -> str:
    return ", ".join(str(i) for i in range(1, min(n, 64) + 1) if n % i == 0)

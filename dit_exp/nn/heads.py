"""What attentions share: tokens to query, key and value heads and back."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from dit_exp.nn.attention import attention
from dit_exp.nn.linear import Linear
from dit_exp.nn.norm import RMSNorm


class Heads(nn.Module):
    """The projections of an attention; `heads // kv_heads` query heads read one key/value head.

    qk_norm   puts an RMS norm over each head's query and key, which keeps bfloat16 runs from diverging
    qkv_bias  whether queries, keys and values have a bias
    size      channels of a head, None for width / heads
    Raises ValueError if `heads % kv_heads`, or without a size `width % heads`, is not 0.
    """

    def __init__(
        self, width: int, heads: int, kv_heads: int, qk_norm: bool, qkv_bias: bool, size: int | None = None
    ) -> None:
        super().__init__()
        if heads < 1 or kv_heads < 1:
            raise ValueError(f"model.heads={heads} and attn.kv_heads={kv_heads} must be at least 1.")
        if size is not None and size < 1:
            raise ValueError(f"attn.head_size={size} must be at least 1, or null for width / heads.")
        if size is None and width % heads:
            raise ValueError(
                f"model.width={width} is not divisible by model.heads={heads}. "
                f"Choose heads that divide the width, such as {divisors(width)}."
            )
        if heads % kv_heads:
            raise ValueError(
                f"model.heads={heads} is not divisible by attn.kv_heads={kv_heads}. "
                f"Choose attn.kv_heads from {divisors(heads)}."
            )
        self.heads, self.kv_heads, self.size = heads, kv_heads, size or width // heads
        # Queries, keys and values in one product; the order is the one of published checkpoints.
        self.qkv = Linear(width, (heads + 2 * kv_heads) * self.size, bias=qkv_bias)
        self.out = Linear(heads * self.size, width)
        self.q_norm = RMSNorm(self.size) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.size) if qk_norm else nn.Identity()

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, (heads + 2 kv_heads) d) -> queries (B, heads, N, d), keys and values (B, kv_heads, N, d)."""
        together = rearrange(qkv, "b n (h d) -> b h n d", h=self.heads + 2 * self.kv_heads)
        q, k, v = together.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return self.q_norm(q), self.k_norm(k), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention and the projection back: (B, N, width)."""
        return self.out(rearrange(attention(q, k, v), "b h n d -> b n (h d)"))


def divisors(n: int) -> str:
    """The divisors of n up to 64, for a message."""
    return ", ".join(str(i) for i in range(1, min(n, 64) + 1) if n % i == 0)

"""Softmax attention, for all blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SHORT = 128
"""Tokens up to which the products below are faster than torch's own kernel."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries (B, heads, N, d) and keys and values (B, kv_heads, M, d) -> (B, heads, N, d).

    Query head i reads key/value head i // (heads // kv_heads).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and max(q.shape[2], k.shape[2]) <= SHORT:
        return Short.apply(q, k, v) if torch.is_grad_enabled() else by_products(q, k, v)  # type: ignore
    return scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])


class Short(torch.autograd.Function):
    """torch's attention with a backward pass of plain products in float32.

    For 64 tokens in bfloat16 that of torch's CPU kernel takes 1.9 times as long, for 256 it is faster, and in
    float32 both are even. Nothing of size (N, M) is kept between the passes: forwards, too, by products a
    compiler would keep what both passes have in common, a quarter more for each sample.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        with torch.autocast(q.device.type, enabled=False):
            queries, keys = together(q, k)
            weights, values = weighed(queries, keys), wide(v)
            grad = wide(grads[0]).view(*queries.shape[:-1], v.shape[-1])
            by_weights = torch.ops.aten._softmax_backward_data(grad @ values.mT, weights, -1, torch.float32)
            by_q, by_k, by_v = by_weights @ keys, by_weights.mT @ queries, weights.mT @ grad
        return (q.shape[-1] ** -0.5 * by_q).view(q.shape).to(q.dtype), by_k.to(k.dtype), by_v.to(v.dtype)


def by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention where no gradient is wanted; what weighs tokens is in float32.

    For 64 tokens in bfloat16 torch's CPU kernel takes 1.1 times as long, and 1.5 times where it is compiled.
    """
    with torch.autocast(q.device.type, enabled=False):
        weights = weighed(*together(q, k)).to(v.dtype)
        return (weights @ v.contiguous()).view(*q.shape[:-1], v.shape[-1])


def together(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries over sqrt(d), (B, kv_heads, heads / kv_heads N, d), and keys (B, kv_heads, M, d), in float32.

    Heads that share keys are rows of one product.
    """
    rows = (*k.shape[:2], q.shape[1] // k.shape[1] * q.shape[2], k.shape[-1])
    return (q.shape[-1] ** -0.5 * wide(q)).view(rows), wide(k)


def weighed(queries: Tensor, keys: Tensor) -> Tensor:
    """How much each query takes of each key's value: (..., N, M)."""
    return (queries @ keys.mT).softmax(-1)


def wide(x: Tensor) -> Tensor:
    """In float32, and with heads that lie one after another, which products would copy each time."""
    return x.to(torch.float32, memory_format=torch.contiguous_format).contiguous()

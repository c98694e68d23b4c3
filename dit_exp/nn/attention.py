"""Softmax attention, for all blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SHORT = 128
"""Tokens up to which the backward pass below is faster than torch's own."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries (B, heads, N, d) and keys and values (B, kv_heads, M, d) -> (B, heads, N, d).

    Query head i reads key/value head i // (heads // kv_heads).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and max(q.shape[2], k.shape[2]) <= SHORT:
        return Short.apply(q, k, v)  # type: ignore[no-any-return]
    return scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])


class Short(torch.autograd.Function):
    """torch's attention with a backward pass of plain products in float32.

    For 64 tokens in bfloat16 that of torch's CPU kernel takes 1.9 times as long, for 256 it is faster, and in
    float32 both are even. Nothing of size (N, M) is kept between the passes.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values, grad = (wide(x) for x in (q, k, v, grads[0]))
            # Heads that share keys and values are rows of one product.
            rows = (*k.shape[:2], q.shape[1] // k.shape[1] * q.shape[2], k.shape[-1])
            queries, grad = (scale * queries).view(rows), grad.view(rows)
            weights = (queries @ keys.mT).softmax(-1)
            by_weights = torch.ops.aten._softmax_backward_data(grad @ values.mT, weights, -1, torch.float32)
            by_q, by_k, by_v = scale * (by_weights @ keys), by_weights.mT @ queries, weights.mT @ grad
        return by_q.view(q.shape).to(q.dtype), by_k.to(k.dtype), by_v.to(v.dtype)


def wide(x: Tensor) -> Tensor:
    """In float32, and with heads that lie one after another, which products would copy each time."""
    return x.to(torch.float32, memory_format=torch.contiguous_format).contiguous()

"""Softmax attention, for all blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

SHORT = 128
"""Tokens up to which the products below are faster than torch's own kernel."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries (B, heads, N, d) and keys and values (B, kv_heads, M, d) -> (B, heads, N, d).

    Query head i reads key/value head i // (heads // kv_heads).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and max(q.shape[2], k.shape[2]) <= SHORT:
        return Short.apply(q, k, v)  # type: ignore[no-any-return]
    return scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])


class Short(torch.autograd.Function):
    """Attention by plain products: those that weigh tokens in float32, the others in the inputs' precision.

    For 64 tokens in bfloat16 both passes of torch's CPU kernel take two to four times as long. What tokens
    were weighed by, (B, heads, N, M), is kept between them in the inputs' precision, a twentieth of what a
    block of DiT-S/4 keeps. Gradients err by 0.3 % of themselves, which is less than half of bfloat16's last
    place, and torch's by 0.25 to 0.65 %.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            scores = q.shape[-1] ** -0.5 * rows(wide(q), k) @ wide(k).mT
            weights = scores.softmax(-1).to(v.dtype)
            ctx.save_for_backward(q, k, v, weights)
            return (weights @ v.contiguous()).view(*q.shape[:-1], v.shape[-1])

    @staticmethod
    @once_differentiable  # it reads `weights`, which has no derivative here
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        q, k, v, weights = ctx.saved_tensors
        with torch.autocast(q.device.type, enabled=False):
            queries, grad = rows(q, k), rows(grads[0], v)
            whole = wide(weights)
            whole = whole / whole.sum(-1, keepdim=True)  # it was 1 before they were rounded
            by_weights = wide(grad @ v.contiguous().mT)
            by_scores = torch.ops.aten._softmax_backward_data(by_weights, whole, -1, torch.float32)
            by_scores = (q.shape[-1] ** -0.5 * by_scores).to(q.dtype)
            by_q, by_k, by_v = by_scores @ k.contiguous(), by_scores.mT @ queries, weights.mT @ grad
        return by_q.view(q.shape), by_k, by_v


def rows(x: Tensor, shared: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, kv_heads, heads / kv_heads N, d): the heads that share one are its rows."""
    count = x.shape[1] // shared.shape[1] * x.shape[2]
    return x.contiguous().view(*shared.shape[:2], count, x.shape[-1])


def wide(x: Tensor) -> Tensor:
    """In float32, and with heads that lie one after another, which products would copy each time."""
    return x.to(torch.float32, memory_format=torch.contiguous_format).contiguous()

"""Rotary attention: what place does to it, and what it is without."""

from __future__ import annotations

import torch

from dit_exp.attn.gqa import GroupedQueryAttention
from dit_exp.attn.rope import RotaryAttention
from dit_exp.types.network import TokenGrid

X = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))


def test_without_a_span_it_is_grouped_query_attention():
    rope = RotaryAttention(32, 4, kv_heads=2, qk_norm=False, span=0.0)
    plain = GroupedQueryAttention(32, 4, kv_heads=2, qkv_bias=False)
    plain.load_state_dict(rope.state_dict())
    torch.testing.assert_close(rope(X, X, TokenGrid(3, 4)), plain(X, X), rtol=1e-5, atol=1e-6)


def test_it_tells_tokens_by_their_place():
    rope = RotaryAttention(32, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    moved = rope(X[:, order], X, TokenGrid(3, 4))
    assert not torch.allclose(moved, rope(X, X, TokenGrid(3, 4))[:, order], atol=1e-3)
    assert not torch.allclose(rope(X, X, TokenGrid(4, 3)), rope(X, X, TokenGrid(3, 4)), atol=1e-3)


def test_it_has_neither_bias_nor_fewer_heads_unless_asked():
    shapes = {name: tuple(p.shape) for name, p in RotaryAttention(32, 4).named_parameters()}
    assert shapes == {
        "qkv.weight": (96, 32), "out.weight": (32, 32), "out.bias": (32,), "q_norm.weight": (8,),
        "k_norm.weight": (8,),
    }  # fmt: skip
    assert RotaryAttention(32, 4, kv_heads=1).qkv.weight.shape == (48, 32)

"""Grouped-query attention against multi-head attention and against explicit arithmetic."""

from __future__ import annotations

import pytest
import torch

from dit_exp.attn.gqa import GroupedQueryAttention
from dit_exp.attn.mha import MultiHeadAttention

X = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(0))


def test_as_many_kv_heads_as_heads_is_mha():
    gqa, mha = GroupedQueryAttention(48, 8, kv_heads=8), MultiHeadAttention(48, 8)
    mha.load_state_dict(gqa.state_dict())
    assert torch.equal(gqa(X, X), mha(X, X))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_equals_mha_with_every_key_and_value_head_repeated_in_place(kv_heads: int):
    gqa, mha = GroupedQueryAttention(48, 8, kv_heads=kv_heads), MultiHeadAttention(48, 8)
    q, k, v = gqa.qkv.weight.split([48, 6 * kv_heads, 6 * kv_heads])
    qb, kb, vb = gqa.qkv.bias.split([48, 6 * kv_heads, 6 * kv_heads])

    def repeat(rows: torch.Tensor) -> torch.Tensor:
        heads = rows.reshape(kv_heads, 6, *rows.shape[1:])
        return heads.repeat_interleave(8 // kv_heads, dim=0).flatten(0, 1)

    with torch.no_grad():
        mha.qkv.weight.copy_(torch.cat([q, repeat(k), repeat(v)]))
        mha.qkv.bias.copy_(torch.cat([qb, repeat(kb), repeat(vb)]))
    mha.out.load_state_dict(gqa.out.state_dict())
    torch.testing.assert_close(gqa(X, X), mha(X, X), rtol=1e-5, atol=1e-6)


def test_mha_equals_torch_multihead_attention():
    ours = MultiHeadAttention(48, 6)
    peer = torch.nn.MultiheadAttention(48, 6, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(ours.qkv.weight)
        peer.in_proj_bias.copy_(ours.qkv.bias)
    peer.out_proj.load_state_dict(ours.out.state_dict())
    torch.testing.assert_close(ours(X, X), peer(X, X, X, need_weights=False)[0], rtol=1e-5, atol=1e-6)


def test_qk_norm_makes_the_answer_independent_of_the_scale_of_queries_and_keys():
    attn = GroupedQueryAttention(48, 8, kv_heads=2, qk_norm=True)
    before = attn(X, X)
    with torch.no_grad():
        attn.qkv.weight[: 48 + 12] *= 10
        attn.qkv.bias[: 48 + 12] *= 10
    torch.testing.assert_close(attn(X, X), before, rtol=1e-3, atol=1e-4)


def test_fewer_kv_heads_have_fewer_parameters():
    def size(kv: int) -> int:
        return sum(p.numel() for p in GroupedQueryAttention(384, 8, kv_heads=kv).qkv.parameters())

    assert size(8) - size(2) == 2 * 6 * 48 * (384 + 1)


def test_heads_that_do_not_divide_are_refused_with_what_to_choose():
    with pytest.raises(ValueError, match=r"model.width=50 is not divisible by model.heads=8.*1, 2, 5, 10"):
        MultiHeadAttention(50, 8)
    with pytest.raises(ValueError, match=r"model.heads=6 is not divisible by attn.kv_heads=4.*1, 2, 3, 6"):
        GroupedQueryAttention(48, 6, kv_heads=4)


def test_heads_of_their_own_size_make_the_reports_other_reading():
    """8 heads of 64 at width 384: 12 blocks and their MLPs have 20.05 M weights, 18.58 M with heads of 48."""
    mlp = 8 * 384**2

    def millions(attn: GroupedQueryAttention) -> float:
        return 12 * (attn.qkv.weight.numel() + attn.out.weight.numel() + mlp) / 1e6

    assert millions(GroupedQueryAttention(384, 8, 2, head_size=64)) == pytest.approx(20.05, abs=0.01)
    assert millions(GroupedQueryAttention(384, 8, 2)) == pytest.approx(18.58, abs=0.01)
    assert GroupedQueryAttention(100, 8, 2, head_size=16)(torch.ones(1, 3, 100), None).shape == (1, 3, 100)
    with pytest.raises(ValueError, match=r"attn.head_size=0 must be at least 1"):
        GroupedQueryAttention(384, 8, 2, head_size=0)

"""Time-dependent attention against its equations and against Swin's windows."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.attn.tmsa import TimeDependentAttention
from dit_exp.types.network import TokenGrid

GRID = TokenGrid(4, 6)
X = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(0))
C = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(1))


def attention(**keys) -> TimeDependentAttention:
    torch.manual_seed(2)
    made = TimeDependentAttention(16, 2, extent=6, **keys)
    torch.nn.init.normal_(made.bias.table)
    return made


def test_equals_the_equations():
    attn = attention()
    qkv = X @ attn.qkv.weight.T + attn.qkv.bias + C @ attn.of_condition.weight.T + attn.of_condition.bias
    q, k, v = (part.reshape(2, 24, 2, 8).transpose(1, 2) for part in qkv.split(16, dim=-1))
    table = attn.bias.table.reshape(11, 11, 2)
    bias = torch.empty(2, 24, 24)
    for i in range(24):
        for j in range(24):
            bias[:, i, j] = table[i // 6 - j // 6 + 5, i % 6 - j % 6 + 5]
    y = torch.softmax(q @ k.mT / math.sqrt(8) + bias, dim=-1) @ v
    torch.testing.assert_close(attn(X, C, GRID), attn.out(y.transpose(1, 2).flatten(2)), rtol=1e-4, atol=1e-5)


def test_the_condition_reaches_the_tokens_and_may_differ_among_them():
    attn = attention()
    assert not torch.allclose(attn(X, C, GRID), attn(X, -C, GRID), atol=1e-3)
    torch.testing.assert_close(attn(X, C.expand(-1, 24, -1), GRID), attn(X, C, GRID))


def test_windows_equal_timm_s_swin_without_a_condition():
    from timm.models.swin_transformer import WindowAttention, window_partition, window_reverse

    attn = TimeDependentAttention(16, 2, window=2, extent=2)
    peer = WindowAttention(16, 2, window_size=(2, 2)).eval()
    peer.qkv.load_state_dict(attn.qkv.state_dict())
    peer.proj.load_state_dict(attn.out.state_dict())
    with torch.no_grad():
        peer.relative_position_bias_table.copy_(attn.bias.table)
        attn.of_condition.weight.zero_()
        attn.of_condition.bias.zero_()
    windows = peer(window_partition(X.reshape(2, 4, 6, 16), (2, 2)).flatten(1, 2))
    expected = window_reverse(windows.reshape(-1, 2, 2, 16), (2, 2), 4, 6).flatten(1, 2)
    torch.testing.assert_close(attn(X, C, GRID), expected, rtol=1e-4, atol=1e-5)


def test_a_window_as_large_as_the_grid_is_no_window():
    small, whole = attention(window=6), attention()
    whole.load_state_dict(small.state_dict())
    torch.testing.assert_close(small(X, C, GRID), whole(X, C, GRID), rtol=1e-4, atol=1e-6)


def test_appended_tokens_have_a_bias_of_zero():
    attn, more = attention(), torch.cat([X, C], dim=1)
    with torch.no_grad():
        attn.bias.table.fill_(100.0)  # the grid's tokens hear each other alone, the appended one all
    torch.testing.assert_close(attn(more, C, GRID)[:, :24], attn(X, C, GRID), rtol=1e-4, atol=1e-5)
    moved = torch.cat([X.flip(1), C], dim=1)
    torch.testing.assert_close(attn(more, C, GRID)[:, 24], attn(moved, C, GRID)[:, 24], rtol=1e-4, atol=1e-5)


def test_a_window_that_does_not_divide_the_grid_is_refused():
    with pytest.raises(
        ValueError, match=r"attn.window=4 does not divide the grid of 4x6 tokens. Use attn=tmsa"
    ):
        attention(window=4)(X, C, GRID)
    with pytest.raises(ValueError, match=r"attn.window=0 and attn.extent=6 must be at least 1"):
        attention(window=0)

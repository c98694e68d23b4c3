"""adaLN-Zero and token conditioning: what reaches the blocks, and from which part."""

from __future__ import annotations

import pytest
import torch

from dit_exp.cond.adaln import AdaLNZero
from dit_exp.cond.token import ConditionToken
from dit_exp.types import Modulation

TIME, LABEL = torch.randn(2, 2, 1, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.zeros(2, 5, 16)


def test_an_empty_modulation_changes_nothing():
    x = torch.randn(2, 3, 4)
    assert Modulation().modulate(x) is x
    assert Modulation().gated(x) is x


def test_modulation_is_shift_scale_and_gate_as_published():
    x, shift, scale, gate = torch.randn(4, 2, 3, 4)
    m = Modulation(shift, scale, gate)
    torch.testing.assert_close(m.modulate(x), x * (1 + scale) + shift)
    torch.testing.assert_close(m.gated(x), gate * x)


def test_adaln_starts_closed_and_sums_the_parts():
    cond = AdaLNZero(16, 2)
    cond.reset_parameters()
    tokens, c = cond.join(TOKENS, [TIME, LABEL])
    assert tokens is TOKENS
    torch.testing.assert_close(c, TIME + LABEL)
    for modulation in (*cond.block(0, c), *cond.block(1, c), cond.final(c)):
        assert not any(v.any() for v in modulation if v is not None)


def test_adaln_takes_a_condition_for_each_token():
    cond = AdaLNZero(16, 1)
    each = torch.randn(2, 5, 16)
    _, c = cond.join(TOKENS, [each])
    assert cond.block(0, c)[1].gate.shape == (2, 5, 16)


def test_one_token_is_time_plus_label_and_stands_last():
    cond = ConditionToken(16, 1)
    tokens, c = cond.join(TOKENS, [TIME, LABEL])
    assert tokens.shape == (2, 6, 16)
    torch.testing.assert_close(tokens[:, -1:], TIME + LABEL + cond.position)
    torch.testing.assert_close(c, TIME + LABEL)
    assert cond.block(0, c) == (Modulation(), Modulation())


def test_two_tokens_are_time_then_label():
    cond = ConditionToken(16, 1, tokens=2)
    tokens, _ = cond.join(TOKENS, [TIME, LABEL])
    torch.testing.assert_close(tokens[:, 5], (TIME + cond.position[0])[:, 0])
    torch.testing.assert_close(tokens[:, 6], (LABEL + cond.position[1])[:, 0])


def test_two_tokens_without_labels_are_refused():
    with pytest.raises(ValueError, match=r"cond.tokens=2 needs a label.*cond.tokens=1"):
        ConditionToken(16, 1, tokens=2).join(TOKENS, [TIME])
    with pytest.raises(ValueError, match=r"cond.tokens=3 is not possible"):
        ConditionToken(16, 1, tokens=3)

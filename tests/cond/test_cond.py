"""Conditionings: what reaches the blocks, and from which part."""

from __future__ import annotations

import pytest
import torch

from dit_exp.cond.adaln import AdaLNZero
from dit_exp.cond.adaln_open import AdaLNOpen
from dit_exp.cond.adaln_plain import AdaLN
from dit_exp.cond.adaln_single import AdaLNSingle
from dit_exp.cond.cross import CrossAttentionConditioning
from dit_exp.cond.incontext import InContextClass
from dit_exp.cond.token import ConditionToken
from dit_exp.types.network import Modulation

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


def test_adaln_without_gates_shifts_and_scales_alone():
    cond = AdaLN(16, 1)
    cond.reset_parameters()
    for_attn, for_mlp = cond.block(0, TIME)
    shift, scale, *of_mlp = cond.blocks[0](torch.nn.functional.silu(TIME)).chunk(4, dim=-1)
    assert torch.equal(for_attn.shift, shift)
    assert torch.equal(for_attn.scale, scale)
    assert torch.equal(for_mlp.scale, of_mlp[1])
    assert for_attn.gate is None
    assert for_mlp.gate is None


def test_open_gates_are_those_of_adaln_zero_with_other_first_weights():
    torch.manual_seed(0)
    cond, closed = AdaLNOpen(16, 1), AdaLNZero(16, 1)
    cond.reset_parameters()
    closed.load_state_dict(cond.state_dict())
    assert torch.equal(cond.block(0, TIME)[0].gate, closed.block(0, TIME)[0].gate)
    assert cond.block(0, TIME)[0].gate.abs().max() > 0.01
    assert not any(v.any() for v in cond.final(TIME) if v is not None)


def test_adaln_single_is_one_function_for_all_blocks_plus_a_table_each():
    cond = AdaLNSingle(16, 3)
    cond.reset_parameters()
    assert not any(v.any() for v in cond.block(2, TIME)[1])
    torch.nn.init.normal_(cond.shared.weight)
    torch.nn.init.normal_(cond.tables)
    (a, _), (b, _) = cond.block(0, TIME), cond.block(2, TIME)
    torch.testing.assert_close((a.shift - b.shift)[0, 0], (cond.tables[0] - cond.tables[2])[:16])
    assert torch.equal(cond.block(0, TIME)[0].shift, a.shift)


def test_cross_attention_equals_torch_s_with_time_and_label_as_its_memory():
    cond = CrossAttentionConditioning(16, 1, heads=4)
    x = torch.randn(2, 5, 16)
    peer, own = torch.nn.MultiheadAttention(16, 4, batch_first=True), cond.blocks[0]
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([own.query.weight, own.key_value.weight]))
        peer.in_proj_bias.copy_(torch.cat([own.query.bias, own.key_value.bias]))
    peer.out_proj.load_state_dict(own.out.state_dict())
    memory = torch.cat([TIME, LABEL], dim=1)
    expected = x + peer(torch.nn.functional.layer_norm(x, (16,), eps=1e-6), memory, memory)[0]
    torch.testing.assert_close(cond.between(0, x, [TIME, LABEL]), expected, rtol=1e-5, atol=1e-6)
    assert cond.block(0, TIME) == (Modulation(), Modulation())


def test_class_tokens_are_appended_before_one_block_and_hold_the_label_alone():
    cond = InContextClass(16, 4, tokens=3, start=2)
    assert cond.join(TOKENS, [TIME, LABEL])[0] is TOKENS
    assert cond.enter(1, TOKENS, [TIME, LABEL]) is TOKENS
    longer = cond.enter(2, TOKENS, [TIME, LABEL])
    torch.testing.assert_close(longer[:, 5:], LABEL + cond.position)
    with pytest.raises(ValueError, match=r"cond=incontext needs labels.*cond=adaln"):
        cond.enter(2, TOKENS, [TIME])


@pytest.mark.parametrize("kind", [AdaLNZero, AdaLN, AdaLNOpen, AdaLNSingle, InContextClass])
def test_a_head_that_is_not_modulated_has_no_weights(kind):
    arguments = {"start": 0} if kind is InContextClass else {}
    whole, without = kind(16, 2, **arguments), kind(16, 2, final=False, **arguments)

    def size(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert size(whole) - size(without) == 2 * 16 * 17
    assert without.final(TIME) == Modulation()


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: CrossAttentionConditioning(20, 1), r"cond.heads=8 does not divide.*of 20. .*1, 2, 4, 5"),
        (lambda: InContextClass(16, 4, start=4), r"cond.start=4 one of the model's blocks, 0 to 3"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(build, text: str):
    with pytest.raises(ValueError, match=text):
        build()

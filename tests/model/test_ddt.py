"""DDT: what reaches its decoder, and from where."""

from __future__ import annotations

import pytest
import torch
from networks import images, network, randomized

from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.attn.rope import RotaryAttention
from dit_exp.cond.adaln import AdaLNZero
from dit_exp.nn.patch import fold, patchify

T, LABEL = torch.tensor([900.0, 300.0]), torch.tensor([1, 7])


def test_the_decoder_is_modulated_token_by_token_and_the_label_enters_through_the_state_alone():
    model, x = randomized(network("ddt")), images()
    with torch.no_grad():
        kept = model.encode(x, T, LABEL)
        assert kept.tensors[0].shape == (2, 16, 32)
        out = model.decode(x, T, LABEL, kept)
        assert torch.equal(model.decode(x, T, LABEL.flip(0), kept), out)
        one = kept.tensors[0].clone()
        one[:, 3] += 1
        [moved] = model.through([4], (torch.zeros(2, 16, 32),), context(model, one))
        [still] = model.through([4], (torch.zeros(2, 16, 32),), context(model, kept.tensors[0]))
        assert not torch.allclose(moved[:, 3], still[:, 3], atol=1e-4)


def context(model, state: torch.Tensor):
    from dit_exp.model.blocks import joined

    return joined(model.cond, torch.zeros(2, 16, 32), [state], model.grid)[1]


def test_one_decoder_block_equals_its_equations():
    model, x = randomized(network("ddt", decoder_depth=1)), images()
    silu = torch.nn.functional.silu
    with torch.no_grad():
        kept = model.encode(x, T, LABEL)
        z = silu(kept.tensors[0])
        block = model.blocks[3]
        shift, scale, gate, shift2, scale2, gate2 = model.cond.blocks[3](z).chunk(6, dim=-1)
        tokens = model.patch(patchify(x, 2))
        tokens = tokens + gate * block.attn(block.norm1(tokens) * (1 + scale) + shift, z, model.grid)
        inner = block.norm2(tokens) * (1 + scale2) + shift2
        tokens = tokens + gate2 * block.mlp.outer(silu(block.mlp.gate(inner)) * block.mlp.inner(inner))
        shift, scale = model.cond.head(z).chunk(2, dim=-1)
        tokens = torch.nn.functional.layer_norm(tokens, (32,), eps=1e-6) * (1 + scale) + shift
        torch.testing.assert_close(
            model(x, T, LABEL), fold(model.head(tokens), 2, 8, 8), rtol=1e-4, atol=1e-4
        )


def test_a_kept_state_carries_its_time_unless_it_is_fresh():
    x, later = images(), T - 200
    stale, fresh = randomized(network("ddt")), randomized(network("ddt", fresh_t=True))
    with torch.no_grad():
        assert torch.equal(stale(x, T, LABEL), fresh(x, T, LABEL))
        kept = stale.encode(x, T, LABEL)
        assert torch.equal(stale.decode(x, later, LABEL, kept), stale.decode(x, T, LABEL, kept))
        kept = fresh.encode(x, T, LABEL)
        assert not torch.allclose(
            fresh.decode(x, later, LABEL, kept), fresh.decode(x, T, LABEL, kept), atol=1e-4
        )


def test_time_is_a_number_up_to_one_at_ten_slow_frequencies():
    """Wang et al. feed t in [0, 1] to frequencies from 1 down to 0.1; networks here are told up to 1,000."""
    time, seen = network("ddt").time, []
    time.inner.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    time(torch.tensor([500.0]))
    angles = 0.5 * 10.0 ** (-torch.arange(128) / 128)
    torch.testing.assert_close(seen[0][0], torch.cat([angles.cos(), angles.sin()]))


def test_the_two_readings_of_the_first_weights():
    """Released code: gates open. Paper: adaLN-Zero, each block the identity. The output is 0 in both."""
    x = torch.randn(2, 16, 32)
    for keys, identity in (({}, False), ({"cond": AdaLNZero}, True)):
        model = network("ddt", **keys)
        [tokens] = model.through([0], (x,), context(model, torch.randn(2, 16, 32)))
        assert torch.equal(tokens, x) == identity
        assert not model(images(), T, LABEL).any()


@pytest.mark.parametrize("attn", [MultiHeadAttention, RotaryAttention])
def test_patches_that_change_places_are_seen_whatever_the_attention(attn):
    """An attention that knows no places would give the same answer in changed places."""
    model, x = randomized(network("ddt", attn=attn)), images()
    patches = patchify(x, 2)
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = patchify(model(x, T, LABEL), 2)[:, order]
        moved = patchify(model(fold(patches[:, order], 2, 8, 8), T, LABEL), 2)
    assert float((said - moved).norm() / said.norm()) > 1e-5

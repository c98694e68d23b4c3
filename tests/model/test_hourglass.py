"""The hourglass: what its inner blocks see, and what passes them by."""

from __future__ import annotations

import torch
from networks import network, randomized

from dit_exp.types.network import TokenGrid


def test_inner_blocks_see_squares_of_2x2_tokens():
    model = randomized(network("hourglass"))
    with torch.no_grad():
        for block in model.inner.blocks:
            block.attn.out.weight.zero_()
        tokens = torch.randn(1, 24, 32)
        changed = tokens.clone()
        changed[0, 1 * 6 + 3] += 1  # row 1, column 3 of 4 x 6
        parts = [torch.randn(1, 1, 32)]
        _, context = model.begin(torch.zeros(1, 3, 8, 12), torch.ones(1), torch.ones(1, dtype=torch.long))
        context = context._replace(parts=parts)
        assert context.grid == TokenGrid(4, 6)
        out = model.inner(changed, context, False) - model.inner(tokens, context, False)
    touched = out.abs().amax(-1).reshape(4, 6) > 1e-6
    assert touched.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_the_learned_share_weighs_the_inner_blocks_against_the_tokens():
    model = randomized(network("hourglass"))
    x, t, label = torch.randn(2, 3, 8, 8), torch.ones(2), torch.tensor([1, 2])
    with torch.no_grad():
        tokens, context = model.begin(x, t, label)
        inner = model.inner(tokens, context, False)
        for share in (0.0, 0.25, 1.0):
            model.share.fill_(share)
            [out] = model.step(1, (tokens,), context)
            mixed = (1 - share) * tokens + share * inner
            expected = model.blocks[1](
                mixed, context.c, *model.cond.block(1, context.c), context.grid, torch.nn.Identity()
            )
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_half_of_what_is_said_at_first_comes_from_the_inner_blocks():
    assert network("hourglass").share.item() == 0.5


def test_the_first_part_holds_the_inner_blocks_and_one_outer_block_after_them():
    model = randomized(network("hourglass", depth=2))
    x, t, label = torch.randn(2, 3, 8, 8), torch.ones(2), torch.tensor([1, 2])
    ran = []
    for name, module in (("inner", model.inner), *((str(i), block) for i, block in enumerate(model.blocks))):
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        kept = model.encode(x, t, label)
        assert ran == ["0", "1", "inner", "2"]
        model.decode(x, t, label, kept)
        assert ran[4:] == ["3"]
        _, aligned = model(x, t, label, tokens_after=model.encoder_depth)
    assert torch.equal(aligned.flatten(2).mT, kept.tensors[0])

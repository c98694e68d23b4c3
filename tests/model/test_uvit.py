"""U-ViT: which block reads which."""

from __future__ import annotations

import torch
from networks import images, network, randomized

from dit_exp.nn.patch import patchify


def test_the_last_block_reads_the_first_and_the_one_before_it_the_second():
    """Blocks that add a number each, so that the way of each can be counted."""
    model, x = randomized(network("uvit")).eval(), images()
    with torch.no_grad():
        for i, block in enumerate(model.blocks):
            block.attn.out.weight.zero_()
            block.attn.out.bias.zero_()
            block.mlp.outer.weight.zero_()
            block.mlp.outer.bias.fill_(10.0**i)
        for skip, share in zip(model.skips, (2.0, 3.0), strict=True):
            skip.weight.copy_(torch.cat([torch.eye(32), share * torch.eye(32)], dim=1))
            skip.bias.zero_()
        tokens, context = model.begin(x, torch.ones(2), torch.tensor([1, 2]))
        [out] = model.through(range(5), (tokens,), context)
    # (tokens + 111) + 2 (tokens + 11), plus 1000, plus 3 (tokens + 1), plus 10000
    torch.testing.assert_close(out, 6 * tokens + 111 + 22 + 1000 + 3 + 10_000)


def test_positions_are_learned_and_time_is_a_token_of_its_own():
    model, x = network("uvit", classes=0), images()
    tokens, _ = model.begin(x, torch.tensor([3.0, 5.0]), None)
    torch.testing.assert_close(tokens[:, :16], model.patch(patchify(x, 2)) + model.position)
    wave = tokens[:, 16] - model.cond.position
    torch.testing.assert_close(wave[:, 0], torch.tensor([3.0, 5.0]).cos(), rtol=1e-4, atol=1e-5)
    assert model.position.requires_grad

"""DiffiT's two networks."""

from __future__ import annotations

import pytest
import torch
from networks import TMSA, images, network, randomized

from dit_exp.types.network import Encoded

T = torch.tensor([900.0, 300.0])


def test_time_and_label_reach_the_latent_model_through_its_attention_alone():
    model, x = randomized(network("diffit_latent")), images()
    label = torch.tensor([1, 7])
    with torch.no_grad():
        before = model(x, T, label)
        for block in model.blocks:
            block.attn.of_condition.weight.zero_()
        assert torch.equal(model(x, T.flip(0), label.flip(0)), model(x, T, label))
        assert not torch.allclose(model(x, T, label), before, atol=1e-4)


def test_the_latent_model_s_head_is_behind_silu_without_modulation():
    model, x = randomized(network("diffit_latent")), images()
    seen: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    normed: list[torch.Tensor] = []
    model.norm.register_forward_hook(lambda *given: normed.append(given[2]))
    model(x, T, torch.tensor([1, 7]))
    torch.testing.assert_close(seen[0], torch.nn.functional.silu(normed[0]))


def test_an_image_block_is_a_transformer_beside_the_image():
    """With a transformer of zeros, x + conv(silu(norm(x)))."""
    model = randomized(network("diffit_cifar"))
    stage = model.down[0]
    for block in stage.blocks:
        for module in (block.attn.out, block.mlp.outer):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    x, around = torch.randn(2, 32, 8, 8), stage.around[0]
    expected = x + around.conv(torch.nn.functional.silu(around.norm(x)))
    torch.testing.assert_close(stage(x, [torch.zeros(2, 1, 16)], remat=False), expected)


def test_the_way_down_of_the_image_model_is_kept():
    """Used at once it gives the model's own output; later the first stage brings what has changed."""
    model, label = randomized(network("diffit_cifar")), torch.tensor([1, 7])
    assert (model.encoder_depth, model.deepest) == (3, 0)
    x, later, t, then = images(), images(seed=5), torch.tensor([900.0, 300.0]), torch.tensor([800.0, 200.0])
    with torch.no_grad():
        kept = model.encode(x, t, label)
        assert torch.equal(model.decode(x, t, label, kept), model(x, t, label))
        bottom, first, second, begun = kept.tensors
        moved = Encoded(3, (bottom, first + (model.stem(later) - begun), second, model.stem(later)))
        said = model.decode(later, then, label, kept)
        assert torch.equal(said, model.decode(later, then, label, moved))
        assert not torch.allclose(said, model.decode(x, then, label, kept), atol=1e-4)
        assert model.kept(kept).shape == (2, 4, 64)
        with pytest.raises(ValueError, match=r"Encode anew where the batch or the image size changes"):
            model.decode(later[:1], then[:1], label[:1], kept)
        with pytest.raises(ValueError, match=r"keeps its whole way down, 3 blocks, not 2"):
            model.encode(x, t, label, depth=2)
    with pytest.raises(ValueError, match=r"DiffiTImage cannot be run apart"):
        network("diffit_cifar", stages=1).encode(x, t, label)


def test_only_the_first_halving_widens_the_image_model_and_each_skip_is_joined():
    model = network("diffit_cifar", attn=TMSA)
    assert [stage.around[0].conv.in_channels for stage in model.down] == [32, 32, 64]
    assert [stage.around[0].conv.out_channels for stage in model.down] == [32, 64, 64]
    assert [stage.around[0].conv.in_channels for stage in model.up] == [128, 96]
    assert [stage.blocks[0].attn.heads for stage in (*model.down, *model.up)] == [4, 8, 8, 8, 4]

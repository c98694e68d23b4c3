"""What all models share: other image sizes, blocks kept between steps, parts that do not go together."""

from __future__ import annotations

import functools

import pytest
import torch
from networks import NETWORKS, STACKS, TMSA, WINDOWS, images, network, randomized
from torch import nn

from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.cond.adaln import AdaLNZero
from dit_exp.cond.incontext import InContextClass
from dit_exp.cond.none import AttentionOnly
from dit_exp.cond.token import ConditionToken
from dit_exp.nn import linear
from dit_exp.nn.narrow import narrowed
from dit_exp.nn.transformer import Block

T, LABEL = torch.tensor([900.0, 300.0]), torch.tensor([1, 7])


@pytest.mark.parametrize("name", NETWORKS)
def test_images_larger_and_not_square_are_taken_by_a_model_of_another_size(name: str):
    model = randomized(network(name))
    for rows, columns in ((8, 8), (8, 16), (16, 8), (12, 20)):
        if name == "diffit_cifar" and (rows, columns) == (12, 20):
            continue  # 3x5 tokens at its third stage, which its windows of 2 do not divide
        x = images(rows, columns)
        with torch.no_grad():
            out = model(x, T, LABEL)
            moved = model(x.roll(4, -1), T, LABEL)
        assert out.shape == x.shape
        assert out.isfinite().all()
        assert not torch.allclose(moved, out, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_time_and_label_reach_the_image_and_images_do_not_meet(name: str):
    model = randomized(network(name))
    x = images(count=1).expand(3, -1, -1, -1)
    with torch.no_grad():
        out = model(x, torch.tensor([900.0, 300.0, 900.0]), torch.tensor([1, 1, 7]))
        alone = model(x[:1], torch.tensor([900.0]), torch.tensor([1]))
    assert (out[0] - out[1]).abs().max() > 3e-5
    assert (out[0] - out[2]).abs().max() > 3e-5
    torch.testing.assert_close(out[:1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", STACKS)
def test_tokens_after_any_block_are_that_block_s_and_change_no_bit_of_the_prediction(name: str):
    model, x = randomized(network(name)), images(8, 16)
    assert model.deepest == (model.encoder_depth if name == "ddt" else len(model.blocks))
    given: list[torch.Tensor] = []
    with torch.no_grad():
        expected = model(x, T, LABEL)
        for depth in range(1, model.deepest + 1):
            watch = model.blocks[depth - 1].register_forward_hook(lambda *call: given.append(call[2]))
            out, tokens = model(x, T, LABEL, tokens_after=depth)
            watch.remove()
            assert torch.equal(out, expected)
            assert tokens.shape == (2, model.width, 4, 8)
            # row by row, and without what a conditioning appended at the end
            assert torch.equal(tokens.flatten(2).mT, given.pop()[:, :32])


@pytest.mark.parametrize("name", NETWORKS)
def test_an_augmentation_s_label_is_added_to_the_time_and_zeros_are_none(name: str):
    model, x = randomized(network(name)), images()
    with torch.no_grad():
        expected = model(x, T, LABEL)
        model.add_augmentation(9)
        assert torch.equal(model(x, T, LABEL), expected)
        assert torch.equal(model(x, T, LABEL, augmentation=torch.zeros(2, 9)), expected)
        label = torch.eye(9)[:2]
        told = model(x, T, LABEL, augmentation=label)
        assert not torch.allclose(told, expected, atol=1e-5)
        assert tuple(model.augmentation.weight.shape)[1] == 9
        if name == "ddt":  # whose decoder is told the time alone, with the encoder's state
            return
        column = model.augmentation.weight[:, :2].T
        watch = model.time.register_forward_hook(lambda *call: call[2] + column)
        assert torch.equal(model(x, T, LABEL), told)
        watch.remove()


@pytest.mark.parametrize("name", STACKS)
def test_blocks_kept_for_no_step_at_all_change_no_bit(name: str):
    model, x = randomized(network(name)), images()
    depths = [model.encoder_depth] if name == "ddt" else range(1, len(model.blocks) + 1)
    with torch.no_grad():
        expected = model(x, T, LABEL)
        for depth in depths:
            kept = model.encode(x, T, LABEL, depth)
            assert kept.depth == depth
            assert torch.equal(model.decode(x, T, LABEL, kept), expected)
        assert torch.equal(model.decode(x, T, LABEL, model.encode(x, T, LABEL)), expected)


@pytest.mark.parametrize("name", [name for name in STACKS if name != "ddt"])
def test_blocks_kept_at_another_step_are_moved_by_what_the_image_has_changed_by(name: str):
    """Blocks that add the same whatever the tokens are lose nothing by being kept."""
    model, x, later = randomized(network(name)), images(), images(seed=3)
    depth = model.encoder_depth
    with torch.no_grad():
        for block in model.blocks[:depth]:
            block.attn.out.weight.zero_()
            block.mlp.outer.weight.zero_()
        if name == "hourglass":
            model.share.zero_()
        out = model.decode(later, T, LABEL, model.encode(x, T, LABEL, depth))
        torch.testing.assert_close(out, model(later, T, LABEL), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(out, model(x, T, LABEL), atol=1e-3)


@pytest.mark.parametrize("name", STACKS)
def test_a_kept_state_is_each_image_s_own(name: str):
    """So that it may be split and joined with the batch, as guidance does."""
    model, x = randomized(network(name)), images()
    with torch.no_grad():
        kept = model.encode(x, T, LABEL)
        second = kept._replace(tensors=tuple(v[1:] for v in kept.tensors))
        alone = model.decode(x[1:], T[1:], LABEL[1:], second)
        torch.testing.assert_close(alone, model(x, T, LABEL)[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STACKS)
def test_a_state_of_another_batch_or_size_is_refused(name: str):
    model = randomized(network(name))
    kept = model.encode(images(), T, LABEL)
    for other in (images(count=1), images(16, 16)):
        with pytest.raises(ValueError, match=r"The kept blocks are of tokens \(2, .*Encode anew"):
            model.decode(other, T[: len(other)], LABEL[: len(other)], kept)


def test_blocks_that_a_model_does_not_have_cannot_be_kept():
    for depth in (0, 5):
        with pytest.raises(ValueError, match=rf"{depth} blocks cannot be kept of a model that has 4"):
            network("dit").encode(images(), T, LABEL, depth)
    with pytest.raises(ValueError, match=r"keeps its whole encoder, model.encoder_depth=3 blocks, not 2"):
        network("ddt").encode(images(), T, LABEL, 2)
    with pytest.raises(ValueError, match=r"The blocks of DiffiTImage cannot be run apart"):
        network("diffit_cifar", stages=1).encode(images(), T, LABEL)


@pytest.mark.parametrize(
    ("name", "keys", "text"),
    [
        ("dit", {"attn": MultiHeadAttention, "cond": AttentionOnly}, r"cond=none .*Use attn=tmsa"),
        ("dit", {"attn": WINDOWS, "cond": ConditionToken}, r"attention in windows has no place for them"),
        (
            "dit",
            {"attn": functools.partial(TMSA, window=3)},
            r"attn.window=3 does not divide the grid of 4x4",
        ),
        ("jit", {"heads": 16}, r"heads of a multiple of 4 channels"),
        ("ddt", {"cond": ConditionToken}, r"model=ddt conditions its decoder token by token"),
        ("ddt", {"decoder_depth": 0}, r"model.decoder_depth=0 must be at least 1"),
        ("uvit", {"depth": 3}, r"model.depth=3 must be even"),
        ("uvit", {"cond": functools.partial(InContextClass, start=2)}, r"Use cond.start=0, or cond=token"),
        ("hourglass", {"patch_size": 8}, r"model=hourglass makes one of 2x2 tokens.*1x1 tokens"),
        ("hourglass", {"inner_depth": 0}, r"model.inner_depth=0 must be at least 1"),
        ("diffit_cifar", {"stages": 5}, r"input is 8x8 and is halved 4 times"),
        ("diffit_cifar", {"attn": TMSA, "cond": ConditionToken}, r"carries no appended tokens"),
        ("diffit_cifar", {"attn": MultiHeadAttention}, r"cond=none .*Use attn=tmsa"),
        ("diffit_cifar", {"width": 30}, r"model.width=30 a multiple of 4"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(name: str, keys: dict, text: str):
    with pytest.raises(ValueError, match=text):
        network(name, **keys)


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputing_blocks_gives_the_same_gradients(name: str):
    plain, frugal = randomized(network(name)), randomized(network(name, remat=True))
    for model in (plain, frugal):
        model.train()
        model(images(), T, LABEL).square().mean().backward()
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert a.grad is not None, key
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"uvit"}))
def test_the_output_is_zero_at_first_and_the_head_learns(name: str):
    model = network(name)
    out = model(images(), T, LABEL)
    assert not out.any()
    (out - 1).square().mean().backward()
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_without_classes_has_no_null_label(name: str):
    if name == "jit":
        with pytest.raises(ValueError, match=r"cond=incontext needs labels"):
            network(name, classes=0)(images(), T, None)
        return
    model = randomized(network(name, classes=0))
    assert model.null_label is None
    assert model(images(), T, None).shape == (2, 3, 8, 8)
    assert network(name, cond=AdaLNZero).null_label == 10


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("few", [1, linear.FEW])
def test_a_narrowed_copy_says_the_same_under_mixed_precision_bit_by_bit(name: str, few: int, monkeypatch):
    """Whether its products are so small that they are left to torch, or are taken by oneDNN."""
    monkeypatch.setattr(linear, "FEW", few)
    model = randomized(network(name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    copy = narrowed(model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(copy(images(), T, LABEL), model(images(), T, LABEL))
    for module in copy.modules():
        wanted = torch.bfloat16 if isinstance(module, nn.Linear | nn.Conv2d) else torch.float32
        assert {p.dtype for p in module.parameters(recurse=False)} <= {wanted}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(value.dtype == before[key].dtype for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_precision_keeps_the_tokens_between_blocks_in_float32_and_stays_near(name: str):
    model, seen = randomized(network(name)), []
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for block in blocks:
        block.register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    with torch.no_grad():
        expected = model(images(), T, LABEL)
        seen.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(images(), T, LABEL)
    assert seen == [torch.float32] * len(blocks)
    assert (out.float() - expected).abs().max() < 0.1 * expected.abs().max()

"""DiT against published sizes and against diffusers' model with the same weights."""

from __future__ import annotations

import functools

import pytest
import torch
from networks import network

from dit_exp.attn.gqa import GroupedQueryAttention
from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.cond.adaln import AdaLNZero
from dit_exp.cond.token import ConditionToken
from dit_exp.errors import UserError
from dit_exp.model.dit import DiT
from dit_exp.nn.count import count_gmac, count_parameters
from dit_exp.nn.embed import sincos_2d
from dit_exp.types.network import TokenGrid

SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}


def dit(shape=(4, 32, 32), outputs=8, classes=1000, attn=MultiHeadAttention, cond=AdaLNZero, **kwargs) -> DiT:
    sizes = {"depth": 2, "width": 32, "heads": 4, "patch_size": 2} | kwargs
    return DiT(shape, outputs, classes, attn, cond, **sizes)


def randomized(model: DiT) -> DiT:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    return model.eval()


# Peebles & Xie 2022, table 4 ("Gflops" are multiply-adds) and table 1; parameters with learned variance.
@pytest.mark.parametrize(
    ("size", "patch", "millions", "gmac"),
    [
        ("S", 8, 33.1, 0.36),
        ("S", 4, 32.9, 1.41),
        ("S", 2, 32.9, 6.06),
        ("B", 8, 130.9, 1.42),
        ("B", 4, 130.4, 5.56),
        ("B", 2, 130.3, 23.01),
        ("L", 8, 458.6, 5.01),
        ("L", 4, 458.0, 19.70),
        ("L", 2, 457.8, 80.71),
        ("XL", 8, 675.7, 7.39),
        ("XL", 4, 675.0, 29.05),
        ("XL", 2, 674.8, 118.64),
    ],
)
def test_published_sizes(size: str, patch: int, millions: float, gmac: float):
    depth, width, heads = SIZES[size]
    with torch.device("meta"):
        model = dit(depth=depth, width=width, heads=heads, patch_size=patch)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.05)
    assert count_gmac(model, (4, 32, 32), 1000) == pytest.approx(gmac, rel=6e-3)


@pytest.mark.parametrize(("depth", "width", "millions"), [(12, 384, 32.5), (12, 512, 57.7), (12, 768, 129.5)])
def test_cifar_sizes(depth: int, width: int, millions: float):
    with torch.device("meta"):
        model = dit((3, 32, 32), 3, 10, depth=depth, width=width, heads=width // 64, patch_size=2)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_blocks_of_the_cifar_report_have_18_6_million_parameters():
    attn = functools.partial(GroupedQueryAttention, kv_heads=2)
    with torch.device("meta"):
        model = dit((3, 32, 32), 3, 10, attn, ConditionToken, depth=12, width=384, heads=8, patch_size=4)
    assert count_parameters(model.blocks) / 1e6 == pytest.approx(18.6, abs=0.05)


def published(depth: int = 3, width: int = 48) -> dict[str, torch.Tensor]:
    """Random weights under the names and in the shapes of the published checkpoint, for patches of 2."""
    shapes = {
        "x_embedder.proj.weight": (width, 4, 2, 2), "x_embedder.proj.bias": (width,),
        "t_embedder.mlp.0.weight": (width, 256), "t_embedder.mlp.0.bias": (width,),
        "t_embedder.mlp.2.weight": (width, width), "t_embedder.mlp.2.bias": (width,),
        "y_embedder.embedding_table.weight": (11, width),
        "final_layer.linear.weight": (32, width), "final_layer.linear.bias": (32,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
    }  # fmt: skip
    for i in range(depth):
        for name, out, into in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width), ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width), ("adaLN_modulation.1", 6 * width, width),
        ):  # fmt: skip
            shapes |= {f"blocks.{i}.{name}.weight": (out, into), f"blocks.{i}.{name}.bias": (out,)}
    generator = torch.Generator().manual_seed(1)
    weights = {k: torch.randn(s, generator=generator) * 0.05 for k, s in shapes.items()}
    return weights | {"pos_embed": sincos_2d(16, 16, width)}


def diffusers_names(weights: dict[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """The published names as diffusers' model has them: the embeddings of time and label in every block."""
    theirs = {}
    for kind in ("weight", "bias"):
        theirs[f"pos_embed.proj.{kind}"] = weights[f"x_embedder.proj.{kind}"]
        theirs[f"proj_out_1.{kind}"] = weights[f"final_layer.adaLN_modulation.1.{kind}"]
        theirs[f"proj_out_2.{kind}"] = weights[f"final_layer.linear.{kind}"]
        for i in range(depth):
            ours, b = f"blocks.{i}", f"transformer_blocks.{i}"
            parts = weights[f"{ours}.attn.qkv.{kind}"].chunk(3)
            theirs |= {f"{b}.attn1.to_{n}.{kind}": part for n, part in zip("qkv", parts, strict=True)}
            embedder = f"{b}.norm1.emb.timestep_embedder"
            theirs |= {
                f"{b}.attn1.to_out.0.{kind}": weights[f"{ours}.attn.proj.{kind}"],
                f"{b}.ff.net.0.proj.{kind}": weights[f"{ours}.mlp.fc1.{kind}"],
                f"{b}.ff.net.2.{kind}": weights[f"{ours}.mlp.fc2.{kind}"],
                f"{b}.norm1.linear.{kind}": weights[f"{ours}.adaLN_modulation.1.{kind}"],
                f"{embedder}.linear_1.{kind}": weights[f"t_embedder.mlp.0.{kind}"],
                f"{embedder}.linear_2.{kind}": weights[f"t_embedder.mlp.2.{kind}"],
            }
    for i in range(depth):
        table = f"transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table.weight"
        theirs[table] = weights["y_embedder.embedding_table.weight"]
    return theirs


def test_the_published_checkpoint_gives_what_diffusers_gives():
    from diffusers import DiTTransformer2DModel

    weights = published()
    ours = dit(classes=10, depth=3, width=48, heads=4, checkpoint=weights).eval()
    peer = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_eps=1e-6,
    ).eval()
    missing, unexpected = peer.load_state_dict(diffusers_names(weights, 3), strict=False)
    assert set(missing) <= {"pos_embed.pos_embed"}
    assert not unexpected
    for block in peer.transformer_blocks:
        # diffusers divides its frequencies by 127, the published model by 128.
        block.norm1.emb.time_proj.downscale_freq_shift = 0

    x = torch.randn(3, 4, 32, 32, generator=torch.Generator().manual_seed(2))
    t, label = torch.tensor([0, 500, 999]), torch.tensor([0, 7, 10])
    with torch.no_grad():
        expected = peer(x, timestep=t, class_labels=label).sample
        torch.testing.assert_close(ours(x, t, label), expected, rtol=1e-5, atol=1e-5)


def test_published_weights_of_another_size_are_told_key_by_key():
    with pytest.raises(UserError) as refused:
        dit(classes=10, depth=2, width=48, heads=4, checkpoint=published() | {"odd.weight": torch.ones(1)})
    assert "model.checkpoint is of another architecture; 11 keys differ" in str(refused.value)
    assert "only in the file: blocks.2.attn.out.bias" in str(refused.value)
    with pytest.raises(
        UserError, match=r"label.table.weight: \(11, 48\) in the file, \(21, 48\) in the model"
    ):
        dit(classes=20, depth=3, width=48, heads=4, checkpoint=published())
    with pytest.raises(ValueError, match=r"No published layout of weights is known for JiT"):
        network("jit", checkpoint=published())


@pytest.mark.parametrize("cond", [AdaLNZero, ConditionToken])
def test_the_output_is_zero_at_first_and_the_head_learns(cond):
    model = dit((3, 8, 8), 3, 10, cond=cond)
    out = model(torch.randn(2, 3, 8, 8), torch.tensor([1.0, 900.0]), torch.tensor([0, 9]))
    assert not out.any()
    (out - 1).square().mean().backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_each_adaln_block_is_the_identity_at_first():
    model = dit((3, 8, 8), 3, 10)
    x, c = torch.randn(2, 16, 32), torch.randn(2, 1, 32)
    block = model.blocks[0]
    assert torch.equal(block(x, c, *model.cond.block(0, c), TokenGrid(4, 4), torch.nn.Identity()), x)


def test_recomputing_blocks_gives_the_same_gradients():
    plain, frugal = randomized(dit(classes=10)), randomized(dit(classes=10, remat=True))
    x, t, y = torch.randn(2, 4, 32, 32), torch.tensor([3.0, 700.0]), torch.tensor([1, 2])
    for model in (plain, frugal):
        model.train()
        model(x, t, y).square().mean().backward()
    for a, b in zip(plain.parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_null_label_is_the_row_after_the_last_class():
    assert dit(classes=10).null_label == 10
    assert dit(classes=10, class_dropout=0.0).null_label is None
    assert dit(classes=0).null_label is None


@pytest.mark.parametrize("tokens", [1, 2])
def test_the_condition_token_reaches_the_image(tokens: int):
    cond = functools.partial(ConditionToken, tokens=tokens)
    model = randomized(dit((3, 8, 8), 3, 10, cond=cond))
    x = torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1)
    t = torch.tensor([5.0, 5.0])
    same, other = torch.tensor([4, 4]), torch.tensor([4, 5])
    torch.testing.assert_close(*model(x, t, same), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(*model(x, t, other))


def test_a_rectangular_input_keeps_its_shape():
    assert dit((3, 8, 12), 3, 0)(torch.randn(2, 3, 8, 12), torch.ones(2)).shape == (2, 3, 8, 12)


def test_a_patch_that_does_not_divide_the_input_is_refused():
    with pytest.raises(ValueError, match=r"input is 32x32, and model.patch_size=5 does not divide it"):
        dit(patch_size=5)

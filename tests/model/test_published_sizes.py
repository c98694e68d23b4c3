"""The presets in conf/model against published parameters and multiply-adds, on the meta device."""

from __future__ import annotations

import pytest
import torch
from composing import composed
from hydra.utils import instantiate

from dit_exp.nn.count import count_gmac, count_parameters

LATENT, CIFAR = (4, 32, 32), (3, 32, 32)


def counted(name: str, shape: tuple[int, int, int], outputs: int, classes: int, *keys: str):
    cfg, _ = composed([f"model={name}", *keys])
    with torch.device("meta"):
        model = instantiate(cfg.model)(input_shape=shape, out_channels=outputs, num_classes=classes)
    return model, count_parameters(model) / 1e6, count_gmac(model, shape, classes)


# Peebles & Xie 2022, figure 5 and the text beside it: "Gflops", millions of parameters.
@pytest.mark.parametrize(
    ("keys", "millions", "gmac"),
    [
        (["cond=tokens"], 449, 119.4),
        (["cond=cross"], 598, 137.6),
        (["cond=adaln_plain"], 600, 118.6),
        (["cond=adaln"], 675, 118.6),
    ],
)
def test_dit_s_four_conditionings(keys: list[str], millions: int, gmac: float):
    _, parameters, cost = counted("dit_xl", LATENT, 8, 1000, "model.patch_size=2", *keys)
    assert parameters == pytest.approx(millions, abs=0.5)
    assert cost == pytest.approx(gmac, abs=0.06)


def test_one_modulation_for_all_blocks_saves_a_third_of_dit():
    _, parameters, _ = counted("dit_xl", LATENT, 8, 1000, "model.patch_size=2", "cond=adaln_single")
    assert parameters == pytest.approx(674.83 - 27 * 6 * 1152**2 / 1e6, abs=0.05)


# Wang et al. 2025: 458 M and 675 M.
@pytest.mark.parametrize(("name", "millions"), [("ddt_b", 130.3), ("ddt_l", 457.6), ("ddt_xl", 674.6)])
def test_ddt(name: str, millions: float):
    _, parameters, _ = counted(name, LATENT, 4, 1000, "model.patch_size=2")
    assert parameters == pytest.approx(millions, abs=0.05)


def test_ddt_s_decoder_pays_for_the_modulation_of_every_token():
    """Six products of width x width a token and decoder block, where an encoder's block has them once."""
    _, _, cost = counted("ddt_b", LATENT, 4, 1000, "model.patch_size=2")
    _, _, shallow = counted("ddt_b", LATENT, 4, 1000, "model.patch_size=2", "model.decoder_depth=3")
    tokens, width = 256, 768
    block = 12 * tokens * width**2 + 2 * tokens**2 * width + 6 * tokens * width**2
    assert (cost - shallow) * 1e9 == pytest.approx(block, rel=1e-3)


@pytest.mark.parametrize(("depth", "millions"), [(28, 561.0), (30, 600.9)])
def test_diffit_s_latent_model_has_28_blocks(depth: int, millions: float):
    """561 M are published, and so are 30 blocks, which would be 601 M."""
    _, parameters, cost = counted("diffit_latent", LATENT, 8, 1000, f"model.depth={depth}")
    assert parameters == pytest.approx(millions, abs=0.05)
    if (
        depth == 28
    ):  # the published 114 leave out the products of queries with keys and of weights with values
        products = 2 * 256**2 * 1152 * 28 / 1e9
        assert cost - products == pytest.approx(114, abs=0.5)


@pytest.mark.parametrize(("name", "blocks"), [("diffit_cifar", 10), ("diffit_cifar_l4", 20)])
def test_diffit_s_image_model_has_both_published_depths(name: str, blocks: int):
    model, _, _ = counted(name, CIFAR, 3, 0)
    assert sum(len(stage.blocks) for stage in (*model.down, *model.up)) == blocks
    attentions = [block.attn for stage in (*model.down, *model.up) for block in stage.blocks]
    assert {(a.heads, a.size, a.window) for a in attentions} == {(4, 32, 4), (8, 32, 4)}


def test_uvit_s():
    """Bao et al. 2022, table 1: 44 M."""
    _, parameters, _ = counted("uvit_s", CIFAR, 3, 0, "attn.qkv_bias=false")
    assert parameters == pytest.approx(44.26, abs=0.01)


def test_jit_b_16():
    """Li & He 2025: 131 M and 25 Gflops at 256 pixels."""
    _, parameters, cost = counted("jit_b", (3, 256, 256), 3, 1000)
    assert parameters == pytest.approx(131, abs=0.5)
    assert cost == pytest.approx(25, abs=0.5)


def test_the_hourglass_costs_as_much_as_a_dit_of_patch_4():
    _, _, cost = counted("hourglass", CIFAR, 3, 10)
    _, _, coarse = counted("dit_b", CIFAR, 3, 10)
    _, _, fine = counted("dit_b", CIFAR, 3, 10, "model.patch_size=2")
    assert coarse < cost < 1.25 * coarse < fine / 3

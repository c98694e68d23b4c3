"""The whole way from runs with a known optimum to the size a budget wants and the next sweep's files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import synthetic
from composing import CONF
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from dit_exp.build import build
from dit_exp.check import preflight
from dit_exp.errors import UserError
from dit_exp.scaling.advice import following
from dit_exp.scaling.analysis import analyse
from dit_exp.scaling.following import write
from dit_exp.scaling.points import ends, training_flop

BUDGETS = (1e13, 1e14, 1e15, 1e16)


def test_the_exponents_of_the_optimum_are_the_closed_forms():
    found = analyse(synthetic.grid(BUDGETS), resamples=50)
    assert found.parameters_of.exponent == pytest.approx(synthetic.SIZE_EXPONENT, abs=0.02)
    assert found.images_of.exponent == pytest.approx(1 - synthetic.SIZE_EXPONENT, abs=0.02)
    assert found.law.b == pytest.approx(synthetic.LOSS_EXPONENT, rel=0.05)
    assert found.law.irreducible == pytest.approx(synthetic.E, rel=0.1)
    for compute in BUDGETS:
        assert found.parameters_of(compute) == pytest.approx(synthetic.best_size(compute), rel=0.1)


def test_the_law_is_fitted_to_each_budgets_best_size():
    found = analyse(synthetic.grid(BUDGETS), resamples=50)
    assert [p.cell for p in found.fitted] == [2, 7, 12, 17]  # the factor 1 of each budget
    assert len(found.others) == 16


def test_a_budget_wants_the_size_of_the_power_law_and_the_steps_that_spend_it():
    found = analyse(synthetic.grid(BUDGETS), resamples=50, budget=1e17)
    want = found.wanted
    assert want.parameters == pytest.approx(synthetic.best_size(1e17), rel=0.15)
    assert training_flop(want.gmac, want.steps * 64) == pytest.approx(1e17, rel=1e-3)
    assert found.predicted()["loss"] == pytest.approx(
        synthetic.loss(want.parameters, want.images), rel=0.02
    )  # the law, far from its points, against the truth
    assert analyse(synthetic.grid(BUDGETS), resamples=50).wanted.compute == pytest.approx(4e16, rel=0.01)


def test_minutes_become_flop_at_the_measured_speed():
    found = analyse(synthetic.grid(BUDGETS), resamples=50, minutes=100)  # all runs do 1e12 FLOP a second
    assert found.wanted.compute == pytest.approx(100 * 60 * 1e12, rel=1e-6)
    silent = [synthetic.run(i, 32, 1e4 * 4**i, images_per_second=None) for i in range(5)]
    with pytest.raises(UserError, match=r"task.minutes needs images_per_second.*Pass task.budget=FLOP"):
        analyse(silent, resamples=50, minutes=10)


def test_without_parabolas_the_best_run_says_which_size():
    runs = [synthetic.run(i, 64, 1e4 * 4**i) for i in range(5)]
    found = analyse(runs, resamples=50)
    assert found.parabolas == []
    assert found.wanted.parameters == runs[-1].parameters
    assert "fewer than two budgets have a minimum" in found.wanted.source


def test_curves_give_iso_compute_slices_of_one_run_a_size():
    runs = []
    for i, width in enumerate((16, 24, 32, 48, 64, 96)):
        images = np.geomspace(3e3, 3e6, 40)
        n = synthetic.PER_WIDTH * width**2
        curve = tuple((x, synthetic.loss(n, x)) for x in images)
        runs.append(synthetic.run(i, width, images[-1], curve=curve))
    found = analyse(runs, slices=24, resamples=50)
    minima = [one for one in found.parabolas if one.parameters]
    assert len(minima) >= 3
    assert found.parameters_of.exponent == pytest.approx(synthetic.SIZE_EXPONENT, abs=0.03)


def test_the_numbers_are_json_and_hold_the_fit_its_error_and_the_points():
    runs = synthetic.grid(BUDGETS, noise=0.002)
    found = analyse(runs, resamples=50)
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["law"]["b"]["value"] == found.law.b
    low, high = numbers["law"]["b"]["interval"]
    assert low <= found.law.b <= high
    assert numbers["leave_one_out"]["mean"] == pytest.approx(np.mean(list(found.errors.values())))
    assert sum(p["fitted"] for p in numbers["points"]) == 4
    assert len(numbers["points"]) == 20
    assert numbers["budget"]["steps"] == found.wanted.steps


def test_the_picture_has_three_panels_where_there_are_parabolas(tmp_path: Path):
    from PIL import Image

    iso, plain = synthetic.grid(BUDGETS), [synthetic.run(i, 64, 1e4 * 4**i) for i in range(5)]
    for name, runs in (("iso", iso), ("plain", plain)):
        analyse(runs, resamples=50).picture(ends(runs)).save(tmp_path / f"{name}.png")
    widths = {name: Image.open(tmp_path / f"{name}.png").size[0] for name in ("iso", "plain")}
    assert widths == {"iso": 19 * 110, "plain": 7 * 110}


def written(folder: Path, runs, **arguments) -> tuple[Path, dict, list[str]]:
    """The next sweep's file, its axes, and the sizes that it names."""
    found = analyse(runs, resamples=0, **arguments)
    path = write(folder, "law", found.wanted, following(found.wanted, runs, found.sizes), runs)
    params = OmegaConf.to_container(OmegaConf.load(path))["hydra"]["sweeper"]["params"]
    return path, params, params["+size"].split(",")


def composed(path: Path, params: dict[str, str], size: str):
    """One cell of the written sweep, composed as the command in its header composes it."""
    folder = path.parents[1]
    cell = [f"{key}={str(value).split(',')[0]}" for key, value in params.items() if key != "+size"]
    search = f"hydra.searchpath=[file://{folder}]"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [search, f"+sweep={path.stem}", f"+size={size}", *cell]
        cfg = compose("config", words, return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    choices = {k: v for k, v in cfg.hydra.runtime.choices.items() if "/" not in k and v and k in cfg}
    with open_dict(cfg):
        del cfg["hydra"]
        cfg.run_dir = "runs/test"
        cfg.tracker = {"_target_": "dit_exp.tracker.none.NoTracker"}
    preflight(cfg)
    return cfg, choices


def test_the_next_sweep_composes_builds_and_spends_the_budget(tmp_path: Path):
    runs = synthetic.grid(BUDGETS)
    path, params, sizes = written(tmp_path / "next", runs, budget=1e15)
    assert path.parent == tmp_path / "next" / "sweep"
    assert path.stem.startswith("law_next_1e15_")
    assert len(sizes) == 3
    assert params == {
        "+size": params["+size"],
        "data": "digits",
        "metrics": "none",
        "trainer.batch_size": "64",
        "seed": "0",
    }
    widths = []
    for size in sizes:
        cfg, choices = composed(path, params, size)
        assert choices["data"] == "digits"
        n = synthetic.PER_WIDTH * cfg.model.width**2
        assert training_flop(synthetic.gmac(n), cfg.trainer.max_steps * 64) == pytest.approx(1e15, rel=0.02)
        assert cfg.trainer.max_minutes is None
        build(cfg, choices, [], tmp_path)  # heads divide the width
        widths.append(cfg.model.width)
    best = np.sqrt(synthetic.best_size(1e15) / synthetic.PER_WIDTH)
    assert widths == pytest.approx([best / np.sqrt(2), best, best * np.sqrt(2)], rel=0.1)
    text = path.read_text()
    assert "# Question: which size is best at 1e+15 FLOP" in text
    assert "# Runs: 3 (size) x 1 (seed). Cost: 3 x 1e+15 = 3e+15 FLOP." in text
    assert f"python run.py 'hydra.searchpath=[file://{tmp_path / 'next'}]' +sweep={path.stem}" in text


def test_the_next_sweep_repeats_the_seeds(tmp_path: Path):
    runs = [synthetic.run(2 * i + s, 64, 1e4 * 4**i, seed=s) for i in range(5) for s in (0, 1)]
    path, params, _ = written(tmp_path / "next", runs)
    assert params["seed"] == "0,1"
    assert "3 (size) x 2 (seed)" in path.read_text()


def test_where_the_depth_was_varied_the_next_sizes_are_depths(tmp_path: Path):
    runs = [
        synthetic.run(i, 64, 1e4 * 4**i, model={"width": 64, "depth": d, "heads": 4})
        for i, d in enumerate((2, 4, 4, 8, 8))
    ]
    path, params, sizes = written(tmp_path / "next", runs)
    shapes = [composed(path, params, size)[0].model for size in sizes]
    assert {shape.width for shape in shapes} == {64}
    assert [shape.depth for shape in shapes] == sorted({shape.depth for shape in shapes})
    assert len(shapes) == 3


def test_where_named_models_were_compared_a_size_names_the_nearest(tmp_path: Path):
    def named(i: int, name: str, width: int, depth: int, heads: int):
        shape = {"width": width, "depth": depth, "heads": heads}
        words = (f"model={name}", "data=digits")
        return synthetic.run(i, width, 1e5 * 4**i, model=shape, choice=name, overrides=words)

    runs = [
        named(0, "dit_s", 384, 12, 6), named(1, "dit_b", 768, 12, 12), named(2, "dit_l", 1024, 24, 16),
        named(3, "dit_l", 1024, 24, 16),
    ]  # fmt: skip
    path, params, sizes = written(tmp_path / "next", runs)
    assert "model" not in params
    found = [composed(path, params, size) for size in sizes]
    assert {choices["model"] for _, choices in found} <= {"dit_s", "dit_b", "dit_l"}
    assert [cfg.model.heads for cfg, _ in found][1:] == [16, 16]
    assert [cfg.model.depth for cfg, _ in found][1:] == [24, 24]


def cells(path: Path) -> list[str]:
    """The sizes of a written sweep, as a cell's overrides name them."""
    return OmegaConf.load(path).hydra.sweeper.params["+size"].split(",")


def test_another_budget_or_source_has_another_name_and_the_same_plan_the_same(tmp_path: Path):
    # Each width at its end: no parabola, so every budget wants the best run's size and tells by its steps.
    runs = [synthetic.run(i, width, 6.4e5) for i, width in enumerate((32, 64, 96, 128, 192))]
    small, _, sizes = written(tmp_path / "a", runs, budget=1e16)
    large, _, others = written(tmp_path / "a", runs, budget=4e16)
    assert small.stem != large.stem
    for one, other in zip(sizes, others, strict=True):
        (name, steps), (same, more) = (size.rsplit("_", 1) for size in (one, other))
        assert name.rpartition("_")[2] == same.rpartition("_")[2]
        assert int(more) == pytest.approx(4 * int(steps), rel=1e-3)
    assert cells(small) == sizes  # the second plan has not written over the first
    again, _, _ = written(tmp_path / "b", runs, budget=1e16)
    assert again.stem == small.stem
    other = [dataclasses.replace(run, overrides=(*run.overrides, "optimizer.lr=3e-4")) for run in runs]
    assert written(tmp_path / "c", other, budget=1e16)[0].stem != small.stem


def test_a_plan_that_follows_a_plan_is_named_after_the_first_sweep(tmp_path: Path):
    runs = synthetic.grid(BUDGETS)
    found = analyse(runs, resamples=50)
    choices = following(found.wanted, runs, found.sizes)
    path = write(tmp_path, "law_next_1e15_0a1b2c", found.wanted, choices, runs)
    assert re.fullmatch(r"law_next_4e16_[0-9a-f]{6}", path.stem)


SHAPES = {
    "ddt_b": {"width": 64, "heads": 4, "encoder_depth": 2, "decoder_depth": 1},
    "diffit_cifar": {"width": 64, "heads": 4, "depth": 1},
    "diffit_latent": {"width": 64, "heads": 4, "depth": 2},
    "hourglass": {"width": 64, "heads": 4, "depth": 1, "inner_depth": 2},
    "jit_b": {"width": 64, "heads": 4, "depth": 5},
    "uvit_s": {"width": 64, "heads": 4, "depth": 2},
}


def shaped(name: str, shape: dict[str, int], cell: int, width: int, images: float):
    return synthetic.run(
        cell, width, images, model=shape, choice=name, overrides=(f"model={name}", "data=digits"),
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_sizes_of_any_model_are_widths_that_build_with_rotary_positions(name: str, tmp_path: Path):
    runs = [
        shaped(name, SHAPES[name] | {"width": width}, i, width, 1e4 * 4**i)
        for i, width in enumerate((32, 48, 64, 80))
    ]
    path, params, sizes = written(tmp_path / "next", runs)
    params |= {"attn": "rope"} if name == "uvit_s" else {}  # the others choose their own
    widths = []
    for size in sizes:
        cfg, choices = composed(path, params, size)
        assert {key: cfg.model[key] for key in SHAPES[name] if key != "width"} == {
            key: value for key, value in SHAPES[name].items() if key != "width"
        }
        assert cfg.model.width % (4 * cfg.model.heads) == 0
        cfg.data.image_size = 16
        build(cfg, choices, [], tmp_path)
        widths.append(cfg.model.width)
    assert len(set(widths)) == 3


def test_a_width_leaves_no_head_with_an_odd_quarter():
    # 6 heads: 12, a multiple of both 4 and the heads, would leave heads of 2, 10 or 18 channels.
    runs = [
        synthetic.run(i, width, 1e4 * 4**i, model={"width": width, "heads": 6, "depth": 4})
        for i, width in enumerate((96, 144, 192, 288))
    ]
    found = analyse(runs, resamples=50)
    sizes = [choice.model for choice in following(found.wanted, runs, found.sizes)]
    assert len(sizes) == 3
    assert [size["width"] % 24 for size in sizes] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "tried"),
    [
        ("ddt_b", [{"encoder_depth": 2 * d, "decoder_depth": d} for d in (1, 2, 3, 4)]),
        ("hourglass", [{"depth": d, "inner_depth": 5 * d} for d in (1, 2, 3, 4)]),
        ("uvit_s", [{"depth": d} for d in (2, 4, 6, 8)]),
    ],
)
def test_where_depths_were_varied_all_of_a_models_depths_are_in_proportion(name: str, tried, tmp_path: Path):
    runs = []
    for i, depths in enumerate(tried):
        made = shaped(name, {"width": 32, "heads": 4} | depths, i, 32, 1e4 * 4**i)
        runs.append(dataclasses.replace(made, parameters=10_000 * sum(depths.values())))
    path, params, sizes = written(tmp_path / "next", runs)
    largest, found = tried[-1], []
    for size in sizes:
        cfg, choices = composed(path, params, size)
        cfg.data.image_size = 16
        build(cfg, choices, [], tmp_path)  # U-ViT's blocks are an even number
        assert cfg.model.width == 32
        found.append({key: cfg.model[key] for key in largest})
    assert found == [{k: v * f // 2 for k, v in largest.items()} for f in (1, 2, 4)]

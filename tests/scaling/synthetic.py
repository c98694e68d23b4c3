"""Runs whose losses follow a known law of size and images, L = E + A N^-alpha + B D^-beta.

Then the best size at C FLOP is known in closed form, and so are the exponents of N*(C) and of L(C)
(Hoffmann et al. 2022, arXiv:2203.15556, equation 4).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from dit_exp.scaling.points import Run, training_flop
from dit_exp.sweep.folder import Cell, Status, Sweep

E, A, ALPHA, B, BETA = 0.05, 8.0, 0.35, 40.0, 0.4
TOKENS = 16
PER_WIDTH = 100
"""Parameters are PER_WIDTH width squared, and each costs a multiply-add a token."""

CONFIG = {
    "objective": {"_target_": "dit_exp.objective.eps.Eps"},
    "process": {"_target_": "dit_exp.process.linear.Linear"},
    "data": {"_target_": "dit_exp.data.cifar.Cifar", "root": "/data", "image_size": 32},
    "trainer": {"lr_schedule": {"_target_": "dit_exp.lr_schedule.constant.Constant"}},
    "task": {"validation_images": 5000},
}

SIZE_EXPONENT = BETA / (ALPHA + BETA)
LOSS_EXPONENT = ALPHA * BETA / (ALPHA + BETA)


def gmac(parameters: float) -> float:
    return parameters * TOKENS / 1e9


def loss(parameters: float, images: float) -> float:
    return E + A * parameters**-ALPHA + B * images**-BETA


def best_size(compute: float) -> float:
    pairs = compute / training_flop(gmac(1), 1)  # N D
    return (ALPHA * A / (BETA * B) * pairs**BETA) ** (1 / (ALPHA + BETA))


def run(
    cell: int, width: int, images: float, noise: float = 0.0, batch_size: int = 64, seed: int = 0, **facts
) -> Run:
    parameters = PER_WIDTH * width**2
    steps = round(images / batch_size)
    images = steps * batch_size
    setting = f"model.width={width} trainer.max_steps={steps}"
    facts = {
        "model": {"width": width, "depth": 4, "heads": 4},
        "overrides": (
            "data=digits", f"model.width={width}", f"trainer.max_steps={steps}", f"seed={seed}", "run_dir=/x",
            "metrics=none", "+sweep=scaling", "trainer.batch_size=64", "tracker.uri=http://here:1",
        ),
        "images_per_second": 1e12 / training_flop(gmac(parameters), 1),
    } | facts  # fmt: skip
    return Run(
        cell,
        gmac(parameters),
        images,
        loss(parameters, images) * float(np.exp(noise)),
        parameters,
        setting,
        batch_size=batch_size,
        **facts,
    )


def grid(budgets, factors=(0.4, 0.65, 1.0, 1.6, 2.5), noise: float = 0.0, seed: int = 0) -> list[Run]:
    """Sizes around the best one at each budget, as an iso-compute sweep has them."""
    generator = np.random.default_rng(seed)
    runs = []
    for compute in budgets:
        for factor in factors:
            width = 4 * round(np.sqrt(best_size(compute) * factor / PER_WIDTH) / 4)
            images = compute / training_flop(gmac(PER_WIDTH * width**2), 1)
            runs.append(run(len(runs), width, images, noise * generator.standard_normal()))
    return runs


def write_sweep(folder: Path, runs: list[Run], name: str = "scaling", **configs: dict) -> Sweep:
    """A sweep's directory as its cells leave it; `configs` are nodes of their configuration, by group."""
    cells = []
    for run in runs:
        own = [
            o for o in run.overrides if o.partition("=")[0] in ("model.width", "trainer.max_steps", "seed")
        ]
        cell = Cell(run.cell, own, folder / str(run.cell))
        cell.write(Status("finished", 1))
        metrics = {
            "validation_loss": run.loss, "gmac": run.gmac, "images": run.images, "parameters": run.parameters,
            "images_per_second": run.images_per_second, "scores": run.scores, "protocol": run.protocol,
        }  # fmt: skip
        (cell.folder / "metrics.json").write_text(json.dumps(metrics))
        config = CONFIG | {"model": run.model | {"attn": {}}}
        config["trainer"] = CONFIG["trainer"] | {"batch_size": run.batch_size}
        for group, node in configs.items():
            config[group] = {**config[group], **node}
        (cell.folder / "config.yaml").write_text(yaml.safe_dump(config))
        (cell.folder / "overrides.yaml").write_text(yaml.safe_dump(list(run.overrides)))
        rows = [
            {"step": i, "images": x, "validation_loss": y, "scores": {}} for i, (x, y) in enumerate(run.curve)
        ]
        (cell.folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        cells.append(cell)
    sweep = Sweep(folder, name, ["python", "run.py", "-m", f"+sweep={name}", "data=digits"], cells)
    sweep.write()
    return sweep

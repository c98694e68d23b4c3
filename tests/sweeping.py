"""Writes the folder of a sweep as its runs leave it, with scores that are known."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from dit_exp.sweep.folder import Cell, Status, Sweep

PROTOCOL = {
    "n": 5000,
    "reference": {"kind": "data", "identity": "4f1c", "split": "train", "count": 50000},
    "extractor": "efficientnet-lite0",
    "resize": "bicubic, antialiased, to 224",
    "nfe": 50,
    "sampler": {"name": "ddim", "steps": 50, "eta": 0.0},
    "guidance": {"name": "none"},
    "process": {"name": "linear"},
    "objective": {"name": "eps"},
    "precision": "fp32",
}
CONFIG = {
    "objective": {"_target_": "dit_exp.objective.eps.Eps"},
    "process": {"_target_": "dit_exp.process.linear.Linear"},
    "data": {"_target_": "dit_exp.data.cifar.Cifar", "root": "/data", "image_size": 32},
    "task": {"validation_images": 512},
}
LOG_ERROR = "UserError: The loss is nan at step 17. Lower optimizer.lr <or> clip & go on."


def finish(
    cell: Cell,
    scores: dict[str, float],
    protocol: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **values: float | None,
) -> None:
    """Makes a cell a finished one: 1,000 steps of 64 images, with a curve that falls to its scores."""
    seed = int(cell.settings.get("seed", 0))
    protocol = {**PROTOCOL, "seed": seed, "step": 1000, **(protocol or {})}
    metrics = {
        "steps": 1000,
        "images": 64000,
        "loss": 0.05 + seed / 1000,
        "validation_loss": 0.06 + seed / 1000,
        "images_per_second": 512.5,
        "minutes": 2.0,
        "parameters": 1_234_567,
        "gmac": 0.125,
        "memory_gib": 3.5,
        "scores": scores,
        "protocol": protocol,
    } | values
    cell.write(Status("finished", 1, next(iter(scores.values()), metrics["loss"])))
    (cell.folder / "metrics.json").write_text(json.dumps(metrics))
    (cell.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | (config or {})))
    (cell.folder / "revision.json").write_text(json.dumps({"git_commit": "c0ffee", "git_dirty": "False"}))
    curve = [
        {
            "step": step, "images": 64 * step, "minutes": step / 500, "validation_loss": 0.06 + 10 / step,
            "n": 500 if step < 1000 else protocol["n"],
            "scores": {name: value * (1 + 400 / step) for name, value in scores.items()},
        }
        for step in range(200, 1001, 200)
    ]  # fmt: skip
    (cell.folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    draw = random.Random(cell.number)
    losses = [{"step": s, "loss": 0.05 + 1 / (s + 5) + draw.gauss(0, 0.003)} for s in range(1, 1001)]
    (cell.folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses))
    picture = Image.effect_noise((660, 264), 60).convert("RGB")
    picture.putpixel((0, 0), (cell.number, 0, 0))
    picture.save(cell.folder / "samples.png")


def write_sweep(
    folder: Path,
    axes: dict[str, list[str]],
    score: Callable[[dict[str, str]], dict[str, float]] | None = None,
) -> Sweep:
    """A cell for each combination of `axes`; finished with `score(settings)`, or without it all waiting."""
    cells = [
        Cell(i, [f"{key}={value}" for key, value in zip(axes, values, strict=True)], folder / str(i))
        for i, values in enumerate(itertools.product(*axes.values()))
    ]
    sweep = Sweep(folder, "conditioning", ["python", "run.py", "+sweep=conditioning"], cells, "c0ffee")
    sweep.write()
    for cell in cells:
        if score is not None:
            finish(cell, score(cell.settings))
    return sweep

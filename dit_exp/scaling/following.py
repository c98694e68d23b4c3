"""The next sweep as files: sweep/NAME.yaml, and size/NAME_*.yaml that pair each size with its steps.

A sweep's folder is named by its command, and what is done there stays. So the name says what was planned:
another budget, other sizes or another source give another name, and the same plan the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dit_exp.scaling.advice import Choice, Wanted
from dit_exp.scaling.points import Run

BUDGET = ("trainer.max_steps", "trainer.max_epochs", "trainer.max_minutes")
PLACES = ("run_dir", "seed", "sweep", "size", "task", "checkpoint", "tracker", "hydra")
"""What a sweep's file does not keep of a run's command line, beside the sizes and the budget."""


def write(folder: Path, source: str, want: Wanted, choices: Sequence[Choice], runs: Sequence[Run]) -> Path:
    """Writes the files below `folder`, a search path for Hydra, and returns the sweep's.

    source  the name of the sweep that the runs are of
    What the runs' command lines say beside size, steps and seed is kept from the best run's.
    """
    import yaml

    named = len({run.choice for run in runs}) > 1
    fixed = _kept(runs, {f"model.{key}" for choice in choices for key in choice.model}, named)
    seeds = sorted({o.partition("=")[2] for run in runs for o in run.overrides if o.startswith("seed=")})
    sizes = {choice.shape: _size(choice, named) for choice in choices}
    name = f"{source.partition('_next_')[0]}_next_{want.compute:.3g}_".replace("+", "")
    name += hashlib.sha256(json.dumps([sizes, fixed, seeds]).encode()).hexdigest()[:6]
    for choice in choices:
        about = (
            f"# {choice.parameters / 1e6:.3g} M parameters and {choice.gmac:.3g} GMAC an image, estimated: "
            f"{want.compute:.3g} FLOP are {choice.steps} steps of {choice.base.batch_size} images."
        )
        body = yaml.safe_dump(sizes[choice.shape], sort_keys=False)
        _save(folder / "size" / f"{name}_{choice.shape}.yaml", [about], body)
    names = [f"{name}_{shape}" for shape in sizes]
    params = {"+size": ",".join(names), **fixed, **({"seed": ",".join(seeds)} if seeds else {})}
    count = len(names) * max(1, len(seeds))
    path = folder / "sweep" / f"{name}.yaml"
    lines = [
        f"# Question: which size is best at {want.compute:.3g} FLOP, and does the law hold there?",
        f"# Runs: {len(names)} (size) x {max(1, len(seeds))} (seed). "
        f"Cost: {count} x {want.compute:.3g} = {count * want.compute:.3g} FLOP.  {command(folder, name)}",
    ]
    body = {"hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}
    _save(path, lines, yaml.safe_dump(body, sort_keys=False, width=1000))
    return path


def _size(choice: Choice, named: bool) -> dict[str, Any]:
    """What a size's file sets; also which model, where the runs' command lines named several."""
    chosen = {"defaults": [{"override /model": choice.base.choice}]} if named and choice.base.choice else {}
    budget = {"max_steps": choice.steps, "max_epochs": None, "max_minutes": None}
    return chosen | {"model": choice.model, "trainer": budget}


def _kept(runs: Sequence[Run], resized: set[str], named: bool) -> dict[str, str]:
    """Of the best run's command line what is not of its size, its budget, its repetition or its place."""
    best = min(runs, key=lambda run: run.loss)
    kept: dict[str, str] = {}
    for override in best.overrides:
        key, _, value = override.partition("=")
        plain = key.lstrip("+~")
        dropped = plain in resized or plain in (*BUDGET, *PLACES) or (named and plain == "model")
        if not dropped and not plain.startswith(("hydra.", "hydra/", "tracker.")):
            kept[key] = value
    return kept


def command(folder: Path, name: str) -> str:
    """How the written sweep is run."""
    return f"python run.py 'hydra.searchpath=[file://{folder}]' +sweep={name}"


def _save(path: Path, lines: list[str], body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["# @package _global_", *lines]) + "\n" + body)

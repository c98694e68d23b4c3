"""The next sweep as files: sweep/NAME.yaml, and size/NAME_*.yaml that pair each size with its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dit_exp.scaling.advice import Choice, Wanted
from dit_exp.scaling.points import Run

RESIZED = (
    "model.width",
    "model.depth",
    "model.heads",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.max_minutes",
    "size",
)
PLACES = ("run_dir", "seed", "sweep", "task", "checkpoint", "tracker", "hydra")
"""What a sweep's file does not keep of a run's command line."""


def write(folder: Path, name: str, want: Wanted, choices: Sequence[Choice], runs: Sequence[Run]) -> Path:
    """Writes the files below `folder`, a search path for Hydra, and returns the sweep's.

    What the runs' command lines say beside size, steps and seed is kept from the best run's.
    """
    import yaml

    best = min(runs, key=lambda run: run.loss)
    models = {run.choice for run in runs}
    fixed: dict[str, str] = {}
    for override in best.overrides:
        key, _, value = override.partition("=")
        plain = key.lstrip("+~")
        dropped = plain in (*RESIZED, *PLACES) or plain.startswith(("hydra.", "hydra/", "tracker."))
        if not dropped and not (plain == "model" and len(models) > 1):
            fixed[key] = value
    seeds = sorted({o.partition("=")[2] for run in runs for o in run.overrides if o.startswith("seed=")})
    names = []
    for choice in choices:
        names.append(f"{name}_{choice.model['depth']}x{choice.model['width']}")
        lines = [
            "# @package _global_",
            f"# {choice.parameters / 1e6:.3g} M parameters and {choice.gmac:.3g} GMAC an image, estimated: "
            f"{want.compute:.3g} FLOP are {choice.steps} steps of {choice.base.batch_size} images.",
        ]
        if choice.base.choice and len(models) > 1:
            lines += ["defaults:", f"  - override /model: {choice.base.choice}", ""]
        budget = {"max_steps": choice.steps, "max_epochs": None, "max_minutes": None}
        body = {"model": choice.model, "trainer": budget}
        _save(folder / "size" / f"{names[-1]}.yaml", lines, yaml.safe_dump(body, sort_keys=False))
    params = {"+size": ",".join(names), **fixed, **({"seed": ",".join(seeds)} if seeds else {})}
    count = len(names) * max(1, len(seeds))
    path = folder / "sweep" / f"{name}.yaml"
    lines = [
        "# @package _global_",
        f"# Question: which size is best at {want.compute:.3g} FLOP, and does the law hold there?",
        f"# Runs: {len(names)} (size) x {max(1, len(seeds))} (seed). "
        f"Cost: {count} x {want.compute:.3g} = {count * want.compute:.3g} FLOP.  {command(folder, name)}",
    ]
    body = {"hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}
    _save(path, lines, yaml.safe_dump(body, sort_keys=False, width=1000))
    return path


def command(folder: Path, name: str) -> str:
    """How the written sweep is run."""
    return f"python run.py 'hydra.searchpath=[file://{folder}]' +sweep={name}"


def _save(path: Path, lines: list[str], body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n" + body)

"""From a sweep's cells to the runs that one law can be fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dit_exp.errors import UserError
from dit_exp.lr_schedule.constant import Constant
from dit_exp.report.protocols import differing, of_loss, variants
from dit_exp.scaling.points import Run
from dit_exp.sweep.folder import Cell, Sweep
from dit_exp.trainer.history import read_rows

LOSS = "validation_loss"
NEEDED = (LOSS, "gmac", "images", "parameters")
CONSTANT = f"{Constant.__module__}.{Constant.__name__}"


def runs_of(sweep: Sweep, slices: int = 0) -> list[Run]:
    """The cells that have a validation loss. `slices` is above 0 where their curves are to be cut.

    Raises UserError where none has one, where the losses are measured in several ways, and for cuts of curves
    whose learning rate falls.
    """
    cells = [cell for cell in sweep.cells if all(cell.metrics.get(key) for key in NEEDED)]
    if not cells:
        done = sum(bool(cell.metrics) for cell in sweep.cells)
        raise UserError(
            f"No run of the sweep in {sweep.folder} has a validation loss ({done} of {len(sweep.cells)} have "
            "ended). Train with task.validation_images=N: noise and times are then the same for all runs."
        )
    configs = [_yaml(cell.folder / "config.yaml") or {} for cell in cells]
    _check_losses(cells, configs)
    if slices:
        _check_rates(cells, configs)
    return [_run(cell, config, sweep) for cell, config in zip(cells, configs, strict=True)]


def _check_losses(cells: Sequence[Cell], configs: Sequence[dict[str, Any]]) -> None:
    """Raises UserError for losses that are not one quantity, which no law describes."""
    found = variants([of_loss(LOSS, config) for config in configs], ())
    if len(found) == 1:
        return
    counts = [f"{len(one.members)} runs like #{cells[one.members[0]].number}" for one in found]
    listed = "".join(
        f"\n  {key}: " + ", ".join(f"{value} ({count})" for value, count in zip(values, counts, strict=True))
        for key, values in differing(found).items()
    )
    raise UserError(
        f"The validation losses of these {len(cells)} runs are {len(found)} quantities, and a law is of one. "
        f"They differ in {', '.join(differing(found))}:{listed}\n"
        "Pass a sweep whose runs differ in size and budget, one for each of these."
    )


def _check_rates(cells: Sequence[Cell], configs: Sequence[dict[str, Any]]) -> None:
    """Raises UserError for a learning rate that falls: a run's last loss has its end, a cut of it has not."""
    for cell, config in zip(cells, configs, strict=True):
        schedule = (config.get("trainer", {}).get("lr_schedule") or {}).get("_target_", CONSTANT)
        if schedule != CONSTANT:
            raise UserError(
                f"task.slices cuts curves where a shorter run would end, which holds for a constant learning "
                f"rate alone, and run #{cell.number} has {schedule}: pass task.slices=0 with runs of several "
                "lengths, or train with lr_schedule=constant."
            )


def _run(cell: Cell, config: dict[str, Any], sweep: Sweep) -> Run:
    metrics, overrides = cell.metrics, _overrides(cell, sweep)
    curve = ((row["images"], row[LOSS]) for row in read_rows(cell.folder / "curve.jsonl") if row.get(LOSS))
    return Run(
        cell.number,
        metrics["gmac"],
        metrics["images"],
        metrics[LOSS],
        metrics["parameters"],
        " ".join(f"{key}={value}" for key, value in cell.settings.items() if key != "seed"),
        next((o.partition("=")[2] for o in overrides if o.startswith("model=")), ""),
        {k: v for k, v in config.get("model", {}).items() if isinstance(v, int | float)},
        config.get("trainer", {}).get("batch_size", 1),
        metrics.get("images_per_second"),
        tuple(dict(curve).items()),
        metrics.get("scores", {}),
        metrics.get("protocol", {}),
        tuple(overrides),
    )


def _overrides(cell: Cell, sweep: Sweep) -> list[str]:
    """The run's command line; where its file is not there, the sweep's and the cell's own."""
    stored = _yaml(cell.folder / "overrides.yaml")
    if stored is not None:
        return [str(override) for override in stored]
    typed = [word for word in sweep.command if "=" in word and not word.startswith("-")]
    own = cell.settings
    return [word for word in typed if word.lstrip("+").partition("=")[0] not in own] + cell.overrides


def _yaml(path: Path):
    import yaml

    return yaml.safe_load(path.read_text()) if path.exists() else None

"""From a sweep's cells to rows: what each was set to, what it measured, by which protocol, at what cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dit_exp.report.measures import COSTS, LOSSES
from dit_exp.report.protocols import SCORES, of_loss, of_scores
from dit_exp.sweep.folder import Cell, Status, Sweep

SEED = "seed"
UNSET = "default"
"""Shown for a key that other cells set and this one does not."""

Settings = tuple[tuple[str, str], ...]


@dataclass
class Row:
    """A cell as it was read.

    settings   the factors' values, without the seed     values    finite measures by name
    protocols  what measures depend on, by family        problems  why a finished cell cannot be read
    notes      measures that are not finite
    """

    cell: Cell
    status: Status
    settings: Settings
    seed: str | None
    values: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.status.state == "finished" and not self.problems

    @property
    def label(self) -> str:
        return label(self.settings)

    @cached_property
    def curve(self) -> list[dict[str, Any]]:
        """Scores while training: {step, images, minutes, validation_loss, n, scores}."""
        return _lines(self, "curve.jsonl")

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The loss of every step."""
        return _lines(self, "history.jsonl")


def label(settings: Settings) -> str:
    """A setting as it is typed: cond=token attn=gqa."""
    return " ".join(f"{key}={value}" for key, value in settings) or "all cells"


def rows(sweep: Sweep) -> list[Row]:
    """A row for each cell, in their order."""
    keys = factors(sweep)
    found = []
    for cell in sweep.cells:
        settings = tuple((key, cell.settings.get(key, UNSET)) for key in keys)
        row = Row(cell, cell.status, settings, cell.settings.get(SEED))
        if row.status.state == "finished":
            _measure(row)
        found.append(row)
    return found


def factors(sweep: Sweep) -> dict[str, list[str]]:
    """What the sweep varies besides the seed: keys and their values, in the order in which they appear."""
    keys = {key for cell in sweep.cells for key in cell.settings} - {SEED}
    values: dict[str, list[str]] = {}
    for cell in sweep.cells:
        ordered = [key for key in cell.settings if key in keys] + sorted(keys - cell.settings.keys())
        for key in ordered:
            seen = values.setdefault(key, [])
            if (value := cell.settings.get(key, UNSET)) not in seen:
                seen.append(value)
    return {key: seen for key, seen in values.items() if len(seen) > 1}


def grouped(rows: Sequence[Row]) -> dict[Settings, list[Row]]:
    """The rows of each setting, one a seed."""
    groups: dict[Settings, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.settings, []).append(row)
    return groups


def _measure(row: Row) -> None:
    """Reads metrics.json and config.yaml into a row; what is missing or damaged becomes a problem."""
    import yaml

    try:
        metrics = row.cell.metrics
    except json.JSONDecodeError:
        metrics = {}
    if not metrics:
        row.problems.append("It has finished, but its metrics.json is missing or damaged.")
        return
    config = row.cell.folder / "config.yaml"
    settings = yaml.safe_load(config.read_text()) if config.exists() else {}
    scores = metrics.get("scores") or {}
    losses = {name: metrics[name] for name in LOSSES if metrics.get(name) is not None}
    for name, value in (scores | losses).items():
        if value is not None and math.isfinite(value):
            row.values[name] = float(value)
        else:
            row.notes.append(f"{name} is {value}")
    row.protocols = {name: of_loss(name, settings) for name in losses}
    if scores:
        row.protocols[SCORES] = of_scores(metrics.get("protocol") or {})
    row.cost = {name: float(metrics[name]) for name in COSTS if metrics.get(name) is not None}


def _lines(row: Row, name: str) -> list[dict[str, Any]]:
    """The whole rows of a file of JSON lines; a last one torn by a kill is left out."""
    path = row.cell.folder / name
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found

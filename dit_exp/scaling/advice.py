"""What a budget should be spent on: size, steps, and the sizes of the sweep that would sharpen the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dit_exp.errors import UserError
from dit_exp.scaling.isoflop import PowerLaw, Sizes
from dit_exp.scaling.points import Run, training_flop

STEP_UP = 4.0
"""The next budget, where none is given, in units of the largest one tried."""
AROUND = (0.5, 1.0, 2.0)
"""Sizes of the next sweep, in units of the size wanted."""


@dataclass(frozen=True)
class Wanted:
    """A size and its steps for `compute` FLOP. `source` says how the size was found."""

    compute: float
    parameters: float
    gmac: float
    images: float
    steps: int
    source: str


@dataclass(frozen=True)
class Choice:
    """One size of the next sweep, `base` with another width or depth."""

    base: Run
    model: dict[str, int]
    parameters: float
    gmac: float
    steps: int


def flop_of_minutes(minutes: float, runs: Sequence[Run], parameters_of: PowerLaw | None) -> float:
    """FLOP that a run does in `minutes`, at the speed measured by the sweep's runs for the size it wants.

    Raises UserError where no run knows its images per second.
    """
    speeds: dict[int, list[float]] = {}
    for run in runs:
        if run.images_per_second:
            speeds.setdefault(run.parameters, []).append(training_flop(run.gmac, run.images_per_second))
    if not speeds:
        raise UserError(
            "task.minutes needs images_per_second in the runs' metrics.json. Pass task.budget=FLOP."
        )
    tried = sorted(speeds)
    speed = [math.log(np.median(speeds[n])) for n in tried]
    compute = 60 * minutes * math.exp(max(speed))
    for _ in range(50):  # the size depends on the budget, the speed on the size, and the budget on the speed
        size = float(parameters_of(compute)) if parameters_of else _best(runs).parameters
        compute = 60 * minutes * math.exp(np.interp(math.log(size), np.log(tried), speed))
    return compute


def wanted(compute: float, runs: Sequence[Run], sizes: Sizes, parameters_of: PowerLaw | None) -> Wanted:
    """Size and steps for a budget: by N*(C), or the best size tried where no parabola has a minimum."""
    best = _best(runs)
    if parameters_of:
        parameters, source = float(parameters_of(compute)), "the minima of the parabolas"
    else:
        parameters, source = float(best.parameters), "the best run, as fewer than two budgets have a minimum"
    images = sizes.images(compute, parameters)
    steps = max(1, round(images / best.batch_size))
    return Wanted(compute, parameters, sizes.gmac_of(parameters), images, steps, source)


def following(want: Wanted, runs: Sequence[Run], sizes: Sizes) -> list[Choice]:
    """Sizes around the one wanted, each with the steps that spend the same budget."""
    widths = {run.model.get("width") for run in runs}
    depths = {run.model.get("depth") for run in runs}
    by_depth = len(widths) == 1 and len(depths) > 1
    found: dict[tuple[int, ...], Choice] = {}
    for factor in AROUND:
        target = want.parameters * factor
        base = min(runs, key=lambda run: (abs(math.log(run.parameters / target)), run.loss))
        model = _resized(base, target, by_depth)
        key = "depth" if by_depth else "width"
        power = 1 if by_depth else 2
        parameters = base.parameters * (model[key] / base.model[key]) ** power
        gmac = sizes.gmac_of(parameters)
        steps = max(1, round(want.compute / training_flop(gmac, base.batch_size)))
        found.setdefault(tuple(model.values()), Choice(base, model, parameters, gmac, steps))
    return list(found.values())


def _resized(base: Run, target: float, by_depth: bool) -> dict[str, int]:
    """The base's model at about `target` parameters, which grow with the depth and the width squared.

    A width stays divisible by the heads, and by 4 for the position table.
    """
    ratio = target / base.parameters
    depth, width, heads = (int(base.model[key]) for key in ("depth", "width", "heads"))
    if by_depth:
        return {"width": width, "depth": max(1, round(depth * ratio)), "heads": heads}
    quantum = math.lcm(4, heads)
    return {
        "width": quantum * max(1, round(width * math.sqrt(ratio) / quantum)),
        "depth": depth,
        "heads": heads,
    }


def _best(runs: Sequence[Run]) -> Run:
    return min(runs, key=lambda run: run.loss)

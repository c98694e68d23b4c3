"""What a budget should be spent on: size, steps, and the sizes of the sweep that would sharpen the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from dit_exp.errors import UserError
from dit_exp.scaling.isoflop import PowerLaw, Sizes
from dit_exp.scaling.points import Run, training_flop

STEP_UP = 4.0
"""The next budget, where none is given, in units of the largest one tried."""
AROUND = (0.5, 1.0, 2.0)
"""Sizes of the next sweep, in units of the size wanted."""
HEAD = 4
"""What the channels of a head stay a multiple of."""


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
    """One size of the next sweep: `base` with another width or other depths, `model` its keys that say so."""

    base: Run
    model: dict[str, int]
    parameters: float
    gmac: float
    steps: int

    @property
    def shape(self) -> str:
        """Its depths and its width, then its steps: 12x384_5000."""
        sizes = [*depths(self.model).values(), *(v for k, v in self.model.items() if k == "width")]
        return f"{'x'.join(map(str, sizes))}_{self.steps}"


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
    """Sizes around the one wanted, each with the steps that spend the same budget.

    A size differs from the nearest one tried in its width. Where all runs have one width and not one depth,
    it differs in its depths, all in proportion: a model may have several, such as an encoder's and a
    decoder's. A model without a width gives no size.
    """
    widths = {run.model.get("width") for run in runs}
    tried = [depths(run.model) for run in runs]
    by_depth = len(widths) == 1 and all(tried) and any(one != tried[0] for one in tried)
    odd = {key for one in tried for key, depth in one.items() if depth % 2}
    found: dict[tuple[int, ...], Choice] = {}
    for factor in AROUND:
        target = want.parameters * factor
        base = min(runs, key=lambda run: (abs(math.log(run.parameters / target)), run.loss))
        if by_depth:
            model, ratio = _deepened(base, target, odd)
        elif "width" in base.model:
            model, ratio = _widened(base, target)
        else:
            continue
        parameters = base.parameters * ratio
        gmac = sizes.gmac_of(parameters)
        steps = max(1, round(want.compute / training_flop(gmac, base.batch_size)))
        found.setdefault(tuple(model.values()), Choice(base, model, parameters, gmac, steps))
    return list(found.values())


def depths(model: Mapping[str, float]) -> dict[str, int]:
    """The numbers of blocks of a model: depth, or encoder_depth and decoder_depth."""
    return {k: int(value) for k, value in model.items() if k == "depth" or k.endswith("_depth")}


def _deepened(base: Run, target: float, odd: Set[str]) -> tuple[dict[str, int], float]:
    """The base's model with depths for about `target` parameters, which grow with them, and by how much.

    Depths that were never `odd` stay even: long skips go from one half of the blocks to the other.
    """
    own, deeper = depths(base.model), {}
    for key, depth in own.items():
        step = 1 if key in odd else 2
        deeper[key] = step * max(1, round(depth * target / base.parameters / step))
    shape = {key: int(base.model[key]) for key in ("width", "heads") if key in base.model}
    return shape | deeper, sum(deeper.values()) / sum(own.values())


def _widened(base: Run, target: float) -> tuple[dict[str, int], float]:
    """The same by its width, whose square the parameters grow with.

    A head's channels stay a multiple of 4, as rotary and fixed positions in two dimensions need.
    """
    heads = int(base.model.get("heads", 1))
    quantum = HEAD * heads
    width = quantum * max(1, round(base.model["width"] * math.sqrt(target / base.parameters) / quantum))
    shape = {"heads": heads} if "heads" in base.model else {}
    return {"width": width} | shape | depths(base.model), (width / base.model["width"]) ** 2


def _best(runs: Sequence[Run]) -> Run:
    return min(runs, key=lambda run: run.loss)

"""What a law is fitted to: runs as points of compute and validation loss, and the best of each budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dit_exp.errors import UserError

TOLERANCE = 1.1
"""Two runs whose computes differ by less than this factor share a budget: steps are whole numbers."""

FEWEST, SPAN = 4, 10.0
"""Three parameters are fitted, so three points would always lie on the law; a decade shows its bend."""


@dataclass(frozen=True)
class Run:
    """One finished run of a sweep, as far as scaling needs it.

    gmac     multiply-adds of one image's forward pass, in 1e9
    setting  its settings without the seed, by which repeated runs are known
    model    the scalars of its model (width, depth, heads, ...)
    choice   the model's name, "" for the default
    curve    (images, validation loss) while it trained
    """

    cell: int
    gmac: float
    images: int
    loss: float
    parameters: int
    setting: str = ""
    choice: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 1
    images_per_second: float | None = None
    curve: tuple[tuple[int, float], ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    @property
    def compute(self) -> float:
        return training_flop(self.gmac, self.images)


@dataclass(frozen=True)
class Point:
    """A validation loss that a run reached with `compute` FLOP of training."""

    cell: int
    compute: float
    loss: float
    parameters: int
    gmac: float
    setting: str = ""


def training_flop(gmac: float, images: float) -> float:
    """6 x multiply-adds x images: two operations each in the forward pass, twice as many in the backward."""
    return 6e9 * gmac * images


def ends(runs: Sequence[Run]) -> list[Point]:
    """Each run at its end."""
    return [_point(run, run.compute, run.loss) for run in runs]


def slices(runs: Sequence[Run], count: int) -> list[Point]:
    """The runs' curves, read at `count` budgets of equal ratio; each run where its curve reaches.

    Where only the smallest or the largest sizes reach, the best of them is not the budget's best, so the
    budgets lie where three sizes do, or all where fewer were trained. A curve
    is interpolated in the logarithms of compute and loss. It stands for shorter runs as long as the learning
    rate is constant, for then a shorter run is the beginning of a longer one.
    Raises UserError where no run has a curve.
    """
    curves = [(run, *_curve(run)) for run in runs if len(run.curve) > 1]
    if not curves:
        raise UserError(
            "task.slices reads the runs' curves, and no run of the sweep has one (curve.jsonl with two "
            "validation losses). Pass task.slices=0, or train with task.score_every=STEPS and "
            "task.validation_images=N."
        )
    starts: dict[int, float] = {}
    stops: dict[int, float] = {}
    for run, compute, _ in curves:
        starts[run.parameters] = min(starts.get(run.parameters, np.inf), compute[0])
        stops[run.parameters] = max(stops.get(run.parameters, -np.inf), compute[-1])
    reach = min(3, len(starts))
    lowest, highest = sorted(starts.values())[reach - 1], sorted(stops.values())[-reach]
    if lowest >= highest:
        raise UserError(
            "The runs' curves have no budget in common that three sizes reach. Train the small sizes longer, "
            "or lower task.score_every, so that the curves of the large ones begin earlier."
        )
    found = []
    for budget in np.linspace(lowest, highest, count):
        for run, compute, loss in curves:
            if compute[0] - 1e-9 <= budget <= compute[-1] + 1e-9:
                value = np.exp(np.interp(budget, compute, loss))
                found.append(_point(run, float(np.exp(budget)), float(value)))
    return found


def _curve(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of compute and of loss along a run."""
    images, loss = np.array(sorted(run.curve), dtype=float).T
    return np.log(training_flop(run.gmac, 1) * images), np.log(loss)


def _point(run: Run, compute: float, loss: float) -> Point:
    return Point(run.cell, compute, loss, run.parameters, run.gmac, run.setting)


def budgets(points: Sequence[Point]) -> list[list[Point]]:
    """Points that share a budget, in groups from the smallest; a group spans at most TOLERANCE."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda p: p.compute):
        if groups and point.compute < groups[-1][0].compute * TOLERANCE:
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def frontier(points: Sequence[Point]) -> list[Point]:
    """Of each budget the points of its best setting, by the mean loss over seeds: L(C) is of the best size.

    A budget that was spent in one way only keeps its points.
    """
    kept: list[Point] = []
    for group in budgets(points):
        losses: dict[str, list[float]] = {}
        for point in group:
            losses.setdefault(point.setting, []).append(point.loss)
        best = min(losses, key=lambda setting: float(np.mean(losses[setting])))
        kept += [point for point in group if point.setting == best]
    return kept


def check(points: Sequence[Point]) -> None:
    """Raises UserError for points that no law can be fitted to."""
    computes = [group[0].compute for group in budgets(points)]
    again = (
        "A sweep over model.width with longer runs gives more, see sweeps/sweep/scaling.yaml; so does a "
        "lower task.score_every with task.slices, which reads budgets that three sizes reach."
    )
    if len(computes) < FEWEST:
        raise UserError(
            f"A scaling law needs {FEWEST} or more budgets of compute, and here are "
            f"{len(computes)} (runs within 10 % of each other count once). {again}"
        )
    ratio = max(p.compute for p in points) / min(p.compute for p in points)
    if ratio < SPAN:
        raise UserError(
            f"A scaling law needs a decade of compute, and here it spans a factor of "
            f"{ratio:.1f} ({min(computes):.2g} to {max(computes):.2g} FLOP). {again}"
        )

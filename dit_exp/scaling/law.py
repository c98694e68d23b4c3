"""The law L(C) = L_inf + a C^-b of validation loss over training compute: fit, intervals, and its error.

The fit minimises the Huber loss of the residuals of log L, from several starting points, as Hoffmann et al.
2022 (arXiv:2203.15556, section D.2) fit theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dit_exp.scaling.points import Point, budgets, frontier

Floats = NDArray[np.float64]

LOWEST = 1e-6
"""L_inf in units of the lowest loss: below it the law is a plain power law."""
EXPONENTS = (1e-3, 5.0)


@dataclass(frozen=True)
class Law:
    """L(C) = irreducible + a C^-b, C in FLOP."""

    irreducible: float
    a: float
    b: float

    def __call__(self, compute: ArrayLike) -> Floats:
        return self.irreducible + self.a * np.asarray(compute, dtype=float) ** -self.b


def fit(compute: ArrayLike, loss: ArrayLike, delta: float = 1e-3, start: Law | None = None) -> Law:
    """The law of least Huber loss.

    compute, loss  (n,), of n points at three different computes or more
    delta          residual of log L from which a point pulls with constant force
    start          where the search begins, to end sooner; None tries a grid of starting points
    """
    from scipy.optimize import least_squares

    compute, loss = np.asarray(compute, dtype=float), np.asarray(loss, dtype=float)
    middle = np.exp(
        np.log(compute).mean()
    )  # a is fitted at the middle, where it and b are nearly independent
    x, y = np.log(compute / middle), np.log(loss)

    def residuals(theta: Floats) -> Floats:
        return np.logaddexp(theta[0], theta[1] - theta[2] * x) - y

    def jacobian(theta: Floats) -> Floats:
        share = np.exp(theta[0] - np.logaddexp(theta[0], theta[1] - theta[2] * x))
        return np.stack([share, 1 - share, -x * (1 - share)], axis=1)

    floor = y.min() + np.log(LOWEST)
    lower, upper = [floor, floor, EXPONENTS[0]], [y.max() + 1, y.max() + 5, EXPONENTS[1]]
    if start is None:
        starts = [
            (y.min() + np.log(share), np.log(np.exp(y).mean() - share * np.exp(y.min())), b)
            for share, b in product((0.01, 0.5, 0.9, 0.99), (0.05, 0.2, 0.5, 1.0))
        ]
    else:
        starts = [(np.log(start.irreducible), np.log(start.a) - start.b * np.log(middle), start.b)]
    # Least squares leads to the region, for the Huber loss is flat far from the points.
    scales, tolerance = ((1.0, delta), 1e-12) if start is None else ((delta,), 1e-8)
    best = None
    for theta in starts:
        theta = np.clip(theta, np.add(lower, 1e-9), np.subtract(upper, 1e-9))
        found = None
        for scale in scales:
            found = least_squares(
                residuals,
                theta,
                jacobian,  # pyright: ignore[reportArgumentType]
                bounds=(lower, upper),
                loss="huber",
                f_scale=scale,
                x_scale="jac",
                xtol=tolerance,
                ftol=tolerance,
                gtol=tolerance,
                max_nfev=400,
            )
            theta = found.x
        if found is not None and (best is None or found.cost < best.cost):
            best = found
    assert best is not None
    irreducible, a, b = best.x
    return Law(float(np.exp(irreducible)), float(np.exp(a + b * np.log(middle))), float(b))


def fit_points(points: Sequence[Point], delta: float, start: Law | None = None) -> Law:
    return fit([p.compute for p in points], [p.loss for p in points], delta, start)


def bootstrap(points: Sequence[Point], law: Law, delta: float, resamples: int, seed: int) -> list[Law]:
    """Laws of resampled cells; a cell brings all its points. Empty for fewer than three cells.

    Each resample is fitted to the best of its own budgets, as the points themselves are: that a budget's best
    size was found by chance is part of the doubt. A resample with fewer than three budgets, to which many
    laws fit, is drawn again.
    """
    by_cell = _by_cell(points)
    if len(by_cell) < 3:
        return []
    generator, cells, laws = np.random.default_rng(seed), list(by_cell), []
    while len(laws) < resamples:
        drawn = [
            point for i in generator.integers(len(cells), size=len(cells)) for point in by_cell[cells[i]]
        ]
        if len(budgets(drawn)) >= 3:
            laws.append(fit_points(frontier(drawn), delta, law))
    return laws


def interval(values: ArrayLike, axis: int = 0) -> tuple[Floats, Floats]:
    """The middle 95 % of bootstrapped values."""
    low, high = np.percentile(np.asarray(values), [2.5, 97.5], axis=axis)
    return low, high


def leave_one_out(points: Sequence[Point], delta: float) -> dict[int, float]:
    """Relative error of each cell's losses, predicted by the law of all other cells: its mean over points.

    A cell without which fewer than three budgets remain is left out.
    """
    by_cell, errors = _by_cell(points), {}
    for cell, held in by_cell.items():
        rest = [point for point in points if point.cell != cell]
        if len(budgets(rest)) >= 3:
            said = fit_points(rest, delta)([p.compute for p in held])
            loss = np.array([p.loss for p in held])
            errors[cell] = float(np.mean(np.abs(said - loss) / loss))
    return errors


def _by_cell(points: Sequence[Point]) -> dict[int, list[Point]]:
    found: dict[int, list[Point]] = {}
    for point in points:
        found.setdefault(point.cell, []).append(point)
    return found

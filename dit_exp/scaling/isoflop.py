"""Which size a budget wants: parabolas of loss over size at equal compute, and power laws of their minima.

Source: Hoffmann et al. 2022, arXiv:2203.15556, section 3.2 (IsoFLOP profiles).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dit_exp.scaling.points import Point, budgets, training_flop

SIZES = 3
"""A parabola through fewer sizes is no fit."""
NEAR = 8.0
"""Loss over log size is a parabola near its minimum only; sizes beyond this factor would pull it aside."""


@dataclass(frozen=True)
class Parabola:
    """loss + curvature (ln N - ln parameters)^2 at `compute` FLOP, fitted to sizes N in `range`.

    `parameters` is the size of least loss, None where `reason` says that there is none among the sizes tried.
    """

    compute: float
    range: tuple[float, float]
    curvature: float = 0.0
    parameters: float | None = None
    loss: float | None = None
    reason: str | None = None

    def __call__(self, parameters: ArrayLike) -> NDArray[np.float64]:
        assert self.parameters is not None
        assert self.loss is not None
        return self.loss + self.curvature * np.log(np.asarray(parameters) / self.parameters) ** 2


@dataclass(frozen=True)
class PowerLaw:
    """factor C^exponent."""

    factor: float
    exponent: float

    def __call__(self, compute: ArrayLike) -> NDArray[np.float64]:
        return self.factor * np.asarray(compute, dtype=float) ** self.exponent


@dataclass(frozen=True)
class Sizes:
    """How multiply-adds grow with parameters among the sizes tried; beyond them with the nearest slope.

    parameters, gmac  (n,), rising
    """

    parameters: NDArray[np.float64]
    gmac: NDArray[np.float64]

    def gmac_of(self, parameters: float) -> float:
        """Interpolated in logarithms; from one size alone, in proportion."""
        x, y = np.log(self.parameters), np.log(self.gmac)
        if len(x) == 1:
            return float(self.gmac[0] * parameters / self.parameters[0])
        z = np.log(parameters)
        i = int(np.clip(np.searchsorted(x, z), 1, len(x) - 1))
        slope = (y[i] - y[i - 1]) / (x[i] - x[i - 1])
        return float(np.exp(y[i] + slope * (z - x[i])))

    def images(self, compute: float, parameters: float) -> float:
        """Training images that `compute` FLOP pay for at a size."""
        return compute / training_flop(self.gmac_of(parameters), 1)


def sizes(points: Sequence[Point]) -> Sizes:
    """The sizes tried; where one number of parameters has several costs (patch sizes), their mean."""
    costs: dict[int, list[float]] = {}
    for point in points:
        costs.setdefault(point.parameters, []).append(point.gmac)
    found = sorted(costs)
    return Sizes(np.array(found, dtype=float), np.array([float(np.mean(costs[n])) for n in found]))


def parabolas(points: Sequence[Point]) -> list[Parabola]:
    """One a budget that was spent on SIZES sizes or more."""
    groups = [group for group in budgets(points) if len({p.parameters for p in group}) >= SIZES]
    return [parabola(group) for group in groups]


def parabola(points: Sequence[Point]) -> Parabola:
    """Least squares through the points of one budget at the sizes NEAR the best one and its neighbours."""
    compute = float(np.exp(np.mean(np.log([p.compute for p in points]))))
    tried = sorted({p.parameters for p in points})
    ends = (float(tried[0]), float(tried[-1]))
    losses = [float(np.mean([p.loss for p in points if p.parameters == n])) for n in tried]
    best = int(np.argmin(losses))
    if best in (0, len(tried) - 1):
        side, way = ("smallest", "smaller") if best == 0 else ("largest", "larger")
        return Parabola(compute, ends, reason=f"the {side} size tried is the best, so try {way} ones")
    lowest = min(tried[best] / NEAR, tried[best - 1])
    highest = max(tried[best] * NEAR, tried[best + 1])
    near = [p for p in points if lowest <= p.parameters <= highest]
    z = np.log([p.parameters for p in near])
    curvature, slope, constant = np.polyfit(z - z.mean(), [p.loss for p in near], 2)
    if curvature <= 0:
        return Parabola(compute, ends, reason="the losses bend the other way: noise, or sizes too close")
    parameters = float(np.exp(z.mean() - slope / (2 * curvature)))
    if not ends[0] <= parameters <= ends[1]:
        return Parabola(compute, ends, reason="the minimum lies beyond the sizes tried")
    least = float(constant - slope**2 / (4 * curvature))
    window = (float(np.exp(z.min())), float(np.exp(z.max())))
    return Parabola(compute, window, float(curvature), parameters, least)


def power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw | None:
    """Least squares in logarithms; None for fewer than two points."""
    x, y = np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float))
    if len(x) < 2:
        return None
    exponent, constant = np.polyfit(x - x.mean(), y, 1)
    return PowerLaw(float(np.exp(constant - exponent * x.mean())), float(exponent))

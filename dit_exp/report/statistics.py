"""Means and their intervals, main effects over paired cells, and the Pareto front.

All intervals are Student's t at 95 %: mean +- t(0.975, n - 1) s / sqrt(n), with s the standard deviation of
n values with n - 1 in its denominator. One value gives no interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` values and the interval around it; None where one value gives none."""

    mean: float
    low: float | None
    high: float | None
    count: int

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals share a point; without an interval nothing can be told apart."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return True
        return self.low <= other.high and other.low <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """Raises ValueError for no values."""
    count = len(values)
    if not count:
        raise ValueError("A mean needs a value.")
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, None, 1)
    from scipy.stats import t

    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half, count)


@dataclass(frozen=True)
class Observation:
    """A value measured at a value of a factor, in a block: all that is set besides, with the seed."""

    level: str
    block: tuple[tuple[str, str], ...]
    value: float


@dataclass(frozen=True)
class Level:
    """A factor's value: the mean over the blocks, and the difference to the baseline in the same blocks.

    `difference` is None for the baseline itself and where no block has every value of the factor.
    """

    name: str
    mean: Estimate
    difference: Estimate | None


@dataclass(frozen=True)
class Effect:
    """The levels in their order, the first the baseline, and the number of complete blocks."""

    levels: list[Level]
    complete: int


def effect(observations: Sequence[Observation], order: Sequence[str]) -> Effect:
    """The main effect of a factor whose values are `order`.

    Only blocks with every value of the factor count, so that the design is balanced: each value is averaged
    over the same settings and seeds, and its difference to the baseline is taken inside the blocks. Without
    such a block the means are over what there is, and there is no difference. Values without an observation
    are left out.
    """
    names = [name for name in order if any(o.level == name for o in observations)]
    table: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for o in observations:
        table.setdefault(o.block, {})[o.level] = o.value
    complete = [row for row in table.values() if len(row) == len(names)]
    levels = []
    for name in names:
        values = [row[name] for row in complete] or [row[name] for row in table.values() if name in row]
        pairs = [row[name] - row[names[0]] for row in complete] if name != names[0] else []
        levels.append(Level(name, estimate(values), estimate(pairs) if pairs else None))
    return Effect(levels, len(complete))


def pareto(points: Sequence[tuple[float, float]], direction: int) -> list[bool]:
    """Which (cost, score) points no other one beats: no cheaper one is as good, no equal one is better.

    direction  -1 where a lower score is better, 1 where a higher one is
    """

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] * direction >= b[1] * direction and a != b

    return [not any(beats(other, point) for other in points) for point in points]


def band(curves: Sequence[Mapping[float, float]]) -> list[tuple[float, Estimate]]:
    """(x, mean of y) where all curves {x: y} have a value, by x."""
    common = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return [(x, estimate([curve[x] for curve in curves])) for x in sorted(common)]

"""Which choice won and by how much, in one sentence."""

from __future__ import annotations

from dit_exp.report.collect import label
from dit_exp.report.columns import Column
from dit_exp.report.measures import difference, direction, figure, written

BETTER = {-1: ("lowest", "lower"), 1: ("highest", "higher")}


def verdict(column: Column) -> str:
    """A setting wins where its interval overlaps that of no other one."""
    ranked, estimates, name = column.ranked(), column.estimates, column.header
    best = ranked[0]
    mine = written(estimates[best])
    if len(ranked) == 1:
        return f"Nothing to compare: {name} is {mine} for {label(best)} (seeds: {estimates[best].count})."
    if not direction(column.name):
        return f"No winner: it is not known whether a higher or a lower {column.name} is better."
    extreme, comparative = BETTER[direction(column.name)]
    second = ranked[1]
    rival = f"{label(second)}, {written(estimates[second])}"
    gap = f"{_gap(column)} {comparative} than that of {rival}"
    single = sum(estimates[key].count == 1 for key in ranked)
    if single:
        having = "each setting has" if single == len(ranked) else f"{single} of {len(ranked)} settings have"
        return (
            f"No clear winner, since {having} a single seed, which gives no interval: {label(best)} has the "
            f"{extreme} {name}, {mine}, followed by {rival}."
        )
    overlapping = sum(estimates[best].overlaps(estimates[key]) for key in ranked[1:])
    if overlapping:
        return (
            f"No clear winner: {label(best)} has the {extreme} {name}, {mine}, {gap}, but its interval "
            f"overlaps {overlapping} of {len(ranked) - 1} others."
        )
    return f"{label(best)} wins: its {name} is {mine}, {gap}."


def _gap(column: Column) -> str:
    """How far the best is before the second, with the interval over the seeds that both have."""
    best, second = column.ranked()[:2]
    sign = direction(column.name)
    found = column.paired(best, second) if sign > 0 else column.paired(second, best)
    if found is None:
        return figure(abs(column.estimates[best].mean - column.estimates[second].mean))
    return difference(found)

"""Which choice won and by how much, in one sentence."""

from __future__ import annotations

from dit_exp.report.collect import Settings, label
from dit_exp.report.columns import Column
from dit_exp.report.measures import difference, direction, figure, written
from dit_exp.report.statistics import Estimate

BETTER = {-1: ("lowest", "lower"), 1: ("highest", "higher")}


def verdict(column: Column) -> str:
    """A setting wins where its margin over every other one is clear.

    That is where the interval of their difference over the seeds that both have leaves out 0: seeds share
    what a run is lucky with. Where two settings share fewer than two seeds, their own intervals must part.
    """
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
    close = sum(not _clear(column, best, key) for key in ranked[1:])
    if close:
        return (
            f"No clear winner: {label(best)} has the {extreme} {name}, {mine}, {gap}, but by these seeds it "
            f"may be no better than {close} of {len(ranked) - 1} others."
        )
    return f"{label(best)} wins: its {name} is {mine}, {gap}."


def _margin(column: Column, best: Settings, other: Settings) -> Estimate | None:
    """How much better the best is, over the seeds that both have."""
    return column.paired(best, other) if direction(column.name) > 0 else column.paired(other, best)


def _clear(column: Column, best: Settings, other: Settings) -> bool:
    margin = _margin(column, best, other)
    if margin is not None and margin.low is not None:
        return margin.low > 0
    return not column.estimates[best].overlaps(column.estimates[other])


def _gap(column: Column) -> str:
    """How far the best is before the second, with the interval over the seeds that both have."""
    best, second = column.ranked()[:2]
    found = _margin(column, best, second)
    if found is None:
        return figure(abs(column.estimates[best].mean - column.estimates[second].mean))
    return difference(found)

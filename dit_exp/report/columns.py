"""Columns of comparable values: one measure by one protocol, grouped over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dit_exp.report.collect import SEED, Row, Settings, grouped
from dit_exp.report.measures import LOSSES, direction
from dit_exp.report.protocols import SCORES, Variant, variants
from dit_exp.report.statistics import Effect, Estimate, Observation, effect, estimate


@dataclass(frozen=True)
class Column:
    """A measure by one protocol; `rows` are the finished cells that have it."""

    name: str
    letter: str
    protocol: dict[str, Any]
    rows: list[Row]

    @property
    def header(self) -> str:
        count = f", n = {self.protocol['n']:,}" if "n" in self.protocol and self.name not in LOSSES else ""
        return f"{self.name}{count}{f' ({self.letter})' if self.letter else ''}"

    @property
    def estimates(self) -> dict[Settings, Estimate]:
        """Mean and interval of each setting, over its seeds."""
        groups = grouped(self.rows)
        return {key: estimate([row.values[self.name] for row in rows]) for key, rows in groups.items()}

    def ranked(self) -> list[Settings]:
        """The settings, the best mean first; in their own order where it is not known what is better."""
        return sorted(self.estimates, key=lambda key: -direction(self.name) * self.estimates[key].mean)

    def paired(self, a: Settings, b: Settings) -> Estimate | None:
        """The difference a - b over the seeds that both have, None where they share none."""
        seeds: dict[Settings, dict[str | None, float]] = {
            key: {row.seed: row.values[self.name] for row in rows} for key, rows in grouped(self.rows).items()
        }
        common = [seed for seed in seeds[a] if seed in seeds[b]]
        return estimate([seeds[a][seed] - seeds[b][seed] for seed in common]) if common else None

    def effect(self, factor: str, order: Sequence[str]) -> Effect:
        """The main effect of a factor on this measure."""
        observations = [
            Observation(
                dict(row.settings)[factor],
                (*without(row.settings, factor), (SEED, row.seed or "")),
                row.values[self.name],
            )
            for row in self.rows
        ]
        return effect(observations, order)


def families(rows: Sequence[Row], factors: Sequence[str]) -> dict[str, list[tuple[Variant, list[Row]]]]:
    """The protocols of the scores and of each loss, each with the finished cells measured by it."""
    found = {}
    for family in (SCORES, *LOSSES):
        members = [row for row in rows if row.finished and family in row.protocols]
        asked = factors if family == SCORES else ()  # a loss is another quantity also where the sweep asks
        parted = variants([row.protocols[family] for row in members], asked)
        found[family] = [(variant, [members[i] for i in variant.members]) for variant in parted]
    return found


def columns(rows: Sequence[Row], factors: Sequence[str]) -> list[Column]:
    """The columns of a sweep, that by which it is judged first: a score where there is one, else a loss."""
    found = []
    for family, parted in families(rows, factors).items():
        names = dict.fromkeys(name for row in rows for name in row.values if name not in LOSSES)
        for name in names if family == SCORES else (family,):
            for variant, members in parted:
                having = [row for row in members if name in row.values]
                if having:
                    found.append(Column(name, variant.letter, variant.protocol, having))
    return found


def without(settings: Settings, factor: str) -> Settings:
    """All that is set besides a factor."""
    return tuple((key, value) for key, value in settings if key != factor)


def ordered(settings: Iterable[Settings], column: Column) -> list[Settings]:
    """The best first, then those that have no value in the column."""
    known, ranked = list(settings), column.ranked()
    return [key for key in ranked if key in known] + [key for key in known if key not in ranked]

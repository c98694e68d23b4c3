"""The sections of figures: scores, costs, effects, protocols, and the cells that are not done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dit_exp.report.collect import Row, grouped, label
from dit_exp.report.columns import Column, families, ordered, without
from dit_exp.report.measures import COSTS, direction, figure, plain, signed, written
from dit_exp.report.page import Section, Table
from dit_exp.report.protocols import SCORES, differing
from dit_exp.report.statistics import Effect, estimate

NONE = "–"
ARROWS = {-1: " ↓", 0: "", 1: " ↑"}


def scores(columns: Sequence[Column], rows: Sequence[Row]) -> Section:
    """Each setting's mean and interval over seeds, the best setting first."""
    finished = grouped([row for row in rows if row.finished])
    order = ordered(finished, columns[0])
    header = ["setting", "seeds", *(f"{c.header}{ARROWS[direction(c.name)]}" for c in columns)]
    lines = []
    for key in order:
        found = [c.estimates.get(key) for c in columns]
        lines.append([label(key), str(len(finished[key])), *(written(e) if e else NONE for e in found)])
    text = ["Mean and 95 % interval over seeds (Student t). ↓ lower is better, ↑ higher is better."]
    if any(column.letter for column in columns):
        text.append("Columns with different letters do not compare: Protocols below says which keys differ.")
    text += [
        f"Cell {row.cell.number} ({row.label}): {note}; it is in no mean."
        for row in rows
        for note in row.notes
    ]
    return Section("Scores", text, [Table(header, lines)])


def costs(columns: Sequence[Column], rows: Sequence[Row]) -> Section:
    """What a cell of each setting has cost, the mean over its seeds."""
    finished = grouped([row for row in rows if row.finished])
    keys = [key for key in COSTS if any(key in row.cost for group in finished.values() for row in group)]
    lines = []
    for setting in ordered(finished, columns[0]):
        values = [[row.cost[key] for row in finished[setting] if key in row.cost] for key in keys]
        lines.append([label(setting), *(figure(estimate(v).mean) if v else NONE for v in values)])
    cells = [row for group in finished.values() for row in group]
    text = ["Mean over seeds."]
    for key in keys:
        if (having := sum(key in row.cost for row in cells)) < len(cells):
            text.append(f"{COSTS[key]}: measured in {having} of {len(cells)} cells.")
    return Section("Cost of a cell", text, [Table(["setting", *(COSTS[k] for k in keys)], lines)])


def effects(columns: Sequence[Column], rows: Sequence[Row], factors: Mapping[str, list[str]]) -> Section:
    """Each factor's main effect on each measure: a row for a value, the difference below its mean."""
    section = Section(
        "Effect of each factor",
        [
            "The mean over all other settings and seeds; below it the difference to the first value in the "
            "same settings and seeds, with its 95 % interval over these pairs. Only pairs that are complete "
            "for every value count."
        ],
    )
    for factor, order in factors.items():
        planned = len({(without(row.settings, factor), row.seed) for row in rows})
        found = [(column, column.effect(factor, order)) for column in columns]
        found = [(column, effect) for column, effect in found if len(effect.levels) > 1]
        lines = [[name, *(_level(effect, name) for _, effect in found)] for name in order]
        lines.append(["pairs", *(f"{effect.complete} of {planned}" for _, effect in found)])
        header = [factor, *(f"{column.header}{ARROWS[direction(column.name)]}" for column, _ in found)]
        if found:
            section.tables.append(Table(header, lines, factor))
    return section


def _level(effect: Effect, name: str) -> str:
    for level in effect.levels:
        if level.name == name:
            difference = signed(level.difference) if level.difference else ""
            return f"{figure(level.mean.mean)}\n{difference}".strip()
    return NONE


def protocols(rows: Sequence[Row], factors: Sequence[str]) -> Section:
    """What the columns were measured by; where there are several protocols, the keys that differ."""
    section = Section("Protocols")
    for family, parted in families(rows, factors).items():
        found = [variant for variant, _ in parted]
        if len(found) > 1:
            keys = differing(found)
            what = "Scores" if family == SCORES else f"The {family.replace('_', ' ')}"
            section.text.append(
                f"{what} of different protocols stand in columns of their own and are not compared. "
                f"They differ in: {', '.join(keys)}."
            )
            cells = ["cells", *(", ".join(str(r.cell.number) for r in members) for _, members in parted)]
            lines = [[key, *(plain(value) for value in values)] for key, values in keys.items()]
            header = ["key", *(variant.letter for variant in found)]
            section.tables.append(Table(header, [*lines, cells], what, text=True))
    common = families(rows, factors)[SCORES]
    if common:
        variant = common[0][0]
        apart = differing([v for v, _ in common])
        lines = [[key, plain(value)] for key, value in variant.protocol.items() if key not in apart]
        section.tables.append(Table(["key", "value"], lines, "The same in all scores", text=True))
    return section


def undone(rows: Sequence[Row]) -> Section | None:
    """The cells that failed or have not finished, with their error and log."""
    lines = []
    for row in rows:
        if not row.finished:
            error = " ".join([row.status.error or "", *row.problems]).strip() or NONE
            name = f"{row.cell.number}: {row.label}" + (f" seed={row.seed}" if row.seed else "")
            state = "unreadable" if row.problems else row.status.state
            lines.append([name, state, str(row.status.attempts), error, row.status.log or NONE])
    header = ["cell", "state", "attempts", "error", "log"]
    return Section("Not finished", [], [Table(header, lines, text=True)]) if lines else None

"""The sections of pictures: curves, score over cost, and samples side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from dit_exp.report.collect import Row, grouped, label
from dit_exp.report.columns import Column, ordered
from dit_exp.report.measures import LOSSES, direction
from dit_exp.report.page import Picture, Section
from dit_exp.report.plots import COLOURS, Point, costs, curves
from dit_exp.report.statistics import estimate

BINS = 150
"""Points in a curve of the loss of every step."""


def score_curves(columns: Sequence[Column], rows: Sequence[Row]) -> Section | None:
    """Each score over the images that were trained on."""
    places, pictures = _places(columns, rows), []
    for name in dict.fromkeys(c.name for c in columns if c.name != "loss"):
        members = _of_one_protocol(columns, name, rows)
        counts = Counter(p["n"] for row in members for p in row.curve if _value(p, name) is not None)
        if not counts:
            continue
        n = counts.most_common(1)[0][0]
        y, left_out = name, ""
        if name not in LOSSES:
            y = f"{name}, n = {n:,}"
            others = [f"{count} with n = {other:,}" for other, count in sorted(counts.items()) if other != n]
            left_out = f" Left out, since counts do not compare: {', '.join(others)}." if others else ""
        lines = _by_setting(places, members, lambda row, name=name, n=n: _points(row, name, n))
        drawing = curves(f"curve_{name}", lines, places, "training images", y)
        caption = f"{y} over training images.{left_out}"
        pictures.append(Picture(f"curve_{name}", caption, drawing.png, drawing.svg))
    if not pictures:
        return None
    return Section("Scores over images", [_drawn_how(columns, rows)], pictures=pictures)


def loss_curves(columns: Sequence[Column], rows: Sequence[Row]) -> Section | None:
    """The training loss over steps."""
    last = max((row.history[-1]["step"] for row in rows if row.history), default=0)
    width = max(1, -(-last // BINS))
    places = _places(columns, rows)
    lines = _by_setting(places, rows, lambda row: _binned(row, width))
    if not lines:
        return None
    drawing = curves("curve_loss", lines, places, "step", "loss", log=True)
    caption = f"Training loss, a point the mean of {width:,} steps." if width > 1 else "Training loss."
    picture = Picture("curve_loss", caption, drawing.png, drawing.svg)
    text = [_drawn_how(columns, rows)]
    if sum(column.name == "loss" for column in columns) > 1:
        text.append("These losses do not measure the same (see Protocols): their heights do not compare.")
    return Section("Loss over steps", text, pictures=[picture])


def pareto(columns: Sequence[Column], rows: Sequence[Row]) -> Section | None:
    """Score over training time and over training compute, a point a setting."""
    column = columns[0]
    if not direction(column.name):
        return None
    pictures = []
    for name, axis, cost in COST_AXES:
        points = []
        groups = grouped(column.rows)
        for key in ordered(groups, column):
            members = groups[key]
            values = [value for row in members if (value := cost(row)) is not None]
            if values:
                points.append(Point(label(key), estimate(values).mean, column.estimates[key]))
        if points:
            where = _places(columns, rows)
            drawing = costs(f"pareto_{name}", points, where, direction(column.name), axis, column.header)
            caption = f"{column.header} over {axis}."
            pictures.append(Picture(f"pareto_{name}", caption, drawing.png, drawing.svg))
    text = "Filled: no other setting is as good for less (the Pareto front, dashed). Bars: 95 % over seeds."
    return Section("Score over cost", [text], pictures=pictures) if pictures else None


def samples(columns: Sequence[Column], rows: Sequence[Row]) -> Section | None:
    """One grid a setting, of the same run seed, so that image i starts from the same noise in each."""
    groups = grouped([row for row in rows if (row.cell.folder / "samples.png").exists()])
    if not groups:
        return None
    seed = Counter(row.seed for members in groups.values() for row in members).most_common(1)[0][0]
    pictures = []
    for i, key in enumerate(ordered(groups, columns[0])):
        row = next((row for row in groups[key] if row.seed == seed), groups[key][0])
        which = "" if row.seed is None else f", seed {row.seed}"
        which += "" if row.seed == seed else f" (it has no samples of seed {seed})"
        which += "" if row.finished else ", not finished"
        png = (row.cell.folder / "samples.png").read_bytes()
        pictures.append(Picture(f"samples_{i}", f"{label(key)}{which}, cell {row.cell.number}", png))
    text = "With the same seed, each image starts from the same noise and label in every grid."
    return Section("Samples", [text], pictures=pictures, wide=True)


def _minutes(row: Row) -> float | None:
    return row.cost.get("minutes")


def _compute(row: Row) -> float | None:
    """Training compute in PFLOP: 2 FLOP a MAC, and a backward pass as much as two forward passes."""
    if "gmac" not in row.cost or "images" not in row.cost:
        return None
    return 6 * row.cost["gmac"] * row.cost["images"] / 1e6


COST_AXES: list[tuple[str, str, Callable[[Row], float | None]]] = [
    ("minutes", "training minutes", _minutes),
    ("compute", "training PFLOP", _compute),
]


def _of_one_protocol(columns: Sequence[Column], name: str, rows: Sequence[Row]) -> list[Row]:
    """The cells whose curves may share a plot: the finished ones of a column, and where a measure has but one
    column, those that have not finished."""
    own = [column for column in columns if column.name == name]
    return [row for row in rows if row in own[0].rows or (len(own) == 1 and not row.finished)]


def _points(row: Row, name: str, n: int) -> dict[float, float]:
    found = {p["images"]: _value(p, name) for p in row.curve if name in LOSSES or p["n"] == n}
    return {images: value for images, value in found.items() if value is not None}


def _value(point: dict[str, Any], name: str) -> float | None:
    return point.get(name) if name in LOSSES else point["scores"].get(name)


def _binned(row: Row, width: int) -> dict[float, float]:
    """The mean loss of every `width` steps, by their middle."""
    bins: dict[int, list[float]] = {}
    for point in row.history:
        bins.setdefault((point["step"] - 1) // width, []).append(point["loss"])
    return {(i + 0.5) * width: sum(losses) / len(losses) for i, losses in bins.items()}


def _by_setting(
    places: Sequence[str], rows: Sequence[Row], curve: Callable[[Row], dict[float, float]]
) -> dict[str, list[dict[float, float]]]:
    """The curves of the best settings by label, as many as there are colours."""
    found: dict[str, list[dict[float, float]]] = {}
    for place in places[: len(COLOURS)]:
        lines = [line for row in rows if row.label == place and (line := curve(row))]
        if lines:
            found[place] = lines
    return found


def _places(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """All settings, the best first: a setting has the same colour in each plot."""
    return [label(key) for key in ordered(grouped(rows), columns[0])]


def _drawn_how(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    count, most = len(_places(columns, rows)), len(COLOURS)
    which = f" The {most} best of {count} settings." if count > most else ""
    return f"The mean over seeds with its 95 % interval; faint, each seed.{which}"

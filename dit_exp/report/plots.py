"""Plots that are read on white and on black: as SVG for the page, as PNG for Markdown and the tracker."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dit_exp.report.statistics import Estimate, band, pareto
from dit_exp.trainer.history import decimal_labels

INK = "#1b1c1e"
"""Text and axes. In the page's SVG it becomes the colour of the text around it."""

COLOURS = ("#2f7fd1", "#d9631e", "#1f9e77", "#c05fa0", "#8a6fd1", "#b8860b", "#4f9aa6", "#c94f4f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
OTHER = "#8a8f96"
"""Of settings past the last colour."""

SIZE = (5.0, 3.4)
"""Inches: as wide as a phone, so that the letters keep their size there."""


@dataclass(frozen=True)
class Drawing:
    svg: str
    png: bytes


@dataclass(frozen=True)
class Point:
    """A setting's mean cost and its score."""

    label: str
    cost: float
    score: Estimate


def curves(
    name: str,
    series: Mapping[str, Sequence[Mapping[float, float]]],
    places: Sequence[str],
    x: str,
    y: str,
    log: bool = False,
) -> Drawing:
    """For each label the curves {x: y} of its seeds, faint, and over them their mean with its interval.

    places  all labels of the page in their order, which gives each its colour
    """

    def draw(axes: Any) -> None:
        for label, lines in series.items():
            colour, marker = _style(places.index(label))
            for line in lines if len(lines) > 1 else ():
                axes.plot(list(line), list(line.values()), color=colour, alpha=0.25, linewidth=0.7)
            mean = band(lines)
            xs = [at for at, _ in mean]
            few = len(xs) <= 30
            axes.plot(
                xs, [e.mean for _, e in mean], color=colour, linewidth=1.6, label=label,
                marker=marker if few else None, markersize=4,
            )  # fmt: skip
            if len(lines) > 1:
                lows, highs = [e.low for _, e in mean], [e.high for _, e in mean]
                axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel=x, ylabel=y, yscale="log" if log else "linear")
        _frame(axes, [value for lines in series.values() for line in lines for value in line.values()], log)
        if log:
            decimal_labels(axes.yaxis)

    return _drawn(name, draw)


def costs(
    name: str, points: Sequence[Point], places: Sequence[str], direction: int, x: str, y: str
) -> Drawing:
    """Scores over cost with their intervals, and the front of those that no other one beats."""

    def draw(axes: Any) -> None:
        best = pareto([(p.cost, p.score.mean) for p in points], direction)
        front = sorted((p.cost, p.score.mean) for p, kept in zip(points, best, strict=True) if kept)
        axes.step(*zip(*front, strict=True), where="post", color=INK, alpha=0.5, linewidth=1, linestyle="--")
        for point, kept in zip(points, best, strict=True):
            colour, marker = _style(places.index(point.label))
            mean, low, high = point.score.mean, point.score.low, point.score.high
            bars = [[mean - low], [high - mean]] if low is not None and high is not None else None
            axes.errorbar(
                [point.cost], [mean], yerr=bars, color=colour, marker=marker, markersize=7, linestyle="none",
                capsize=3, label=point.label if colour != OTHER else None,
                markerfacecolor=colour if kept else "none",
            )  # fmt: skip
        axes.set(xlabel=x, ylabel=y)

    return _drawn(name, draw)


def _frame(axes: Any, values: Sequence[float], log: bool) -> None:
    """Shows the curves with half their height around them: an interval over two seeds may be far wider."""
    import numpy as np

    kept = np.array([value for value in values if np.isfinite(value) and (value > 0 or not log)])
    if not kept.size:
        return
    heights = np.log(kept) if log else kept
    low, high = heights.min(), heights.max()
    margin = (high - low) / (10 if log else 2) or abs(high) / 10 or 1.0
    ends = np.array([low - margin, high + margin])
    axes.set_ylim(np.exp(ends) if log else ends)


def _style(place: int) -> tuple[str, str]:
    return (COLOURS[place], MARKERS[place]) if place < len(COLOURS) else (OTHER, ".")


def _drawn(name: str, draw: Callable[[Any], None]) -> Drawing:
    """Both forms of one figure, its legend below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _inked(name):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        columns = 1 if max(map(len, labels), default=0) > 24 else 2
        rows = -(-len(labels) // columns)
        figure.set_size_inches(SIZE[0], SIZE[1] + 0.2 * rows)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=160, facecolor="white")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    return Drawing(_inline(svg.getvalue()), png.getvalue())


@contextmanager
def _inked(name: str) -> Iterator[None]:
    import matplotlib

    ink = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    )
    shape = {"axes.grid": True, "grid.alpha": 0.25, "grid.color": INK, "font.size": 10.0}
    shape |= {"axes.spines.top": False, "axes.spines.right": False}
    # The salt keeps the names inside two figures of one page apart, and a figure the same each time.
    style: dict[Any, Any] = {**ink, **shape, "svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        yield


def _inline(svg: str) -> str:
    """An SVG that stands inside a page: no prolog, no size, the page's font and colour, no unused names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg .*?viewBox="([^"]+)".*?>', r'<svg viewBox="\1" role="img">', svg, count=1, flags=re.DOTALL
    )
    used = set(re.findall(r"#(\w+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: inherit", svg)
    return svg.replace(INK, "currentColor")

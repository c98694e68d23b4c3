"""The picture of a scaling law: points, fit with its band, parabolas, and sizes over compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dit_exp.scaling.isoflop import Parabola, PowerLaw
from dit_exp.scaling.law import Law, interval
from dit_exp.scaling.points import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

STAR: dict[str, Any] = {"markersize": 14, "markeredgecolor": "black", "linestyle": "none"}


@dataclass(frozen=True)
class Picture:
    """`fitted` are the points under the law, `others` those of sizes that were not the best at theirs."""

    fitted: Sequence[Point]
    others: Sequence[Point]
    law: Law
    resamples: Sequence[Law]
    parabolas: Sequence[Parabola]
    parameters_of: PowerLaw | None
    ends: Sequence[Point]
    target: float

    def save(self, path: Path) -> None:
        """Writes a PNG: the law alone, or with the parabolas and N*(C) where there are parabolas."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure

        panels = 3 if self.parabolas else 1
        figure = Figure(figsize=(1 + 6 * panels, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        first, *rest = figure.subplots(1, panels, squeeze=False)[0]
        self._law(first)
        if self.parabolas:
            computes = [p.compute for p in self.parabolas]
            shades = ScalarMappable(LogNorm(min(computes) / 2, max(computes) * 1.5), "plasma")
            self._parabolas(rest[0], shades)
            self._sizes(rest[1], shades)
        figure.savefig(path, dpi=110)

    def _law(self, axes: Axes) -> None:
        from matplotlib.colors import LogNorm

        every = [*self.fitted, *self.others]
        grid = np.geomspace(min(p.compute for p in every), max(self.target, *(p.compute for p in every)), 200)
        law = self.law
        if self.resamples:
            low, high = interval([one(grid) for one in self.resamples])
            axes.fill_between(grid, low, high, color="0.85", label="95 % of resampled fits", linewidth=0)
        text = f"{law.irreducible:.4g} + {law.a:.3g} C$^{{-{law.b:.3g}}}$"
        axes.plot(grid, law(grid), color="black", label=text)
        shown = LogNorm(min(p.parameters for p in every) / 1.1, max(p.parameters for p in every) * 1.1)
        for points, marker in ((self.others, "x"), (self.fitted, "o")):
            dots = axes.scatter(
                [p.compute for p in points],
                [p.loss for p in points],
                c=[p.parameters for p in points],
                norm=shown,
                marker=marker,
                zorder=3,
            )
        axes.figure.colorbar(dots, ax=axes, label="parameters N")
        if law.irreducible > min(p.loss for p in every) / 1.08:
            axes.axhline(law.irreducible, color="0.5", linestyle=":", linewidth=1, label="$L_\\infty$")
        axes.axvline(self.target, color="C3", linestyle="--", linewidth=1, label="budget asked for")
        # The limits follow the points: a band far wider than they are says so by leaving the picture.
        losses = [p.loss for p in every] + [float(law(self.target))]
        axes.set(ylim=(min(losses) / 1.08, max(losses) * 1.08), xscale="log", yscale="log")
        title = "The law, fitted to the best of each budget (dots)"
        _label(axes, "training compute C (FLOP)", "validation loss", title)

    def _parabolas(self, axes: Axes, shades: ScalarMappable) -> None:
        for one in self.parabolas:
            color = shades.to_rgba(np.array(one.compute))
            near = [p for p in [*self.fitted, *self.others] if abs(np.log(p.compute / one.compute)) < 0.1]
            axes.plot([p.parameters for p in near], [p.loss for p in near], "o", color=color, markersize=5)
            if one.parameters is not None and one.loss is not None:
                grid = np.geomspace(*one.range, 100)
                axes.plot(grid, one(grid), color=color)
                axes.plot(one.parameters, one.loss, "*", color=color, **STAR)
        axes.plot([], [], "*", color="0.7", **STAR, label="minimum")
        axes.set(xscale="log", yscale="log")
        axes.figure.colorbar(shades, ax=axes, label="training compute C (FLOP)")
        _label(axes, "parameters N", "validation loss", "Sizes at equal compute")

    def _sizes(self, axes: Axes, shades: ScalarMappable) -> None:
        best = [(p.compute, p.parameters) for p in self.parabolas if p.parameters is not None]
        tried = [(p.compute, p.parameters) for p in self.ends]
        axes.plot(*np.array(tried).T, "o", color="0.75", markersize=4, label="runs")
        for compute, parameters in best:
            axes.plot(compute, parameters, "*", color=shades.to_rgba(np.array(compute)), **STAR)
        if self.parameters_of:
            law = self.parameters_of
            grid = np.geomspace(best[0][0], self.target, 50)
            text = f"N* = {law.factor:.2g} C$^{{{law.exponent:.3g}}}$"
            axes.plot(grid, law(grid), color="black", label=text)
        axes.axvline(self.target, color="C3", linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log")
        _label(axes, "training compute C (FLOP)", "parameters N", "The size a budget wants")


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="best")
    if y == "validation loss":  # 0.05 instead of 5 x 10^-2: a loss rarely spans a decade
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.yaxis.set_minor_locator(NullLocator())

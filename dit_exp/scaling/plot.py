"""The picture of a scaling law: points, fit with its band, parabolas, and sizes over compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dit_exp.scaling.isoflop import Parabola, PowerLaw
from dit_exp.scaling.law import Law, interval
from dit_exp.scaling.points import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Normalize


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
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure

        panels = 3 if self.parabolas else 1
        figure = Figure(figsize=(1 + 5.5 * panels, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        first, *rest = figure.subplots(1, panels, squeeze=False)[0]
        self._law(first)
        if self.parabolas:
            computes = [p.compute for p in self.parabolas]
            colors = LogNorm(min(computes) / 2, max(computes) * 1.2)
            self._parabolas(rest[0], colors)
            self._sizes(rest[1], colors)
        figure.savefig(path, dpi=110)

    def _law(self, axes: Axes) -> None:
        import matplotlib as mpl

        every = [*self.fitted, *self.others]
        grid = np.geomspace(min(p.compute for p in every), max(self.target, *(p.compute for p in every)), 200)
        law = self.law
        if self.resamples:
            low, high = interval([one(grid) for one in self.resamples])
            axes.fill_between(grid, low, high, color="0.85", label="95 % of resampled fits", linewidth=0)
        axes.plot(
            grid, law(grid), color="black", label=f"{law.irreducible:.4g} + {law.a:.3g} C$^{{-{law.b:.3g}}}$"
        )
        sizes = sorted({p.parameters for p in every})
        shade = {n: mpl.colormaps["viridis"](0.9 * i / max(1, len(sizes) - 1)) for i, n in enumerate(sizes)}
        for n in sizes:
            best = [p for p in self.fitted if p.parameters == n]
            rest = [p for p in self.others if p.parameters == n]
            style = {"linestyle": "none", "marker": "o", "color": shade[n], "markersize": 6, "zorder": 3}
            axes.plot([p.compute for p in rest], [p.loss for p in rest], **style, markerfacecolor="none")
            label = f"{n / 1e6:.3g} M"
            axes.plot([p.compute for p in best], [p.loss for p in best], **style, label=label)
        if law.irreducible > 0.5 * min(p.loss for p in every):
            axes.axhline(law.irreducible, color="0.5", linestyle=":", linewidth=1, label="$L_\\infty$")
        axes.axvline(self.target, color="C3", linestyle="--", linewidth=1, label="budget asked for")
        # The limits follow the points: a band far wider than they are says so by leaving the picture.
        losses = [p.loss for p in every] + [float(law(self.target))]
        axes.set(ylim=(min(losses) / 1.08, max(losses) * 1.08), xscale="log", yscale="log")
        _label(axes, "training compute C (FLOP)", "validation loss", "The law (filled points)")
        axes.legend(fontsize=8)
        _plain_ticks(axes.yaxis)

    def _parabolas(self, axes: Axes, colors: Normalize) -> None:
        import matplotlib as mpl

        shade = mpl.colormaps["plasma"]
        for one in self.parabolas:
            color = shade(colors(one.compute))
            near = [p for p in [*self.fitted, *self.others] if abs(np.log(p.compute / one.compute)) < 0.1]
            axes.plot([p.parameters for p in near], [p.loss for p in near], "o", color=color, markersize=5)
            label = f"{one.compute:.2g} FLOP"
            if one.parameters is None or one.loss is None:
                axes.plot([], [], color=color, label=f"{label}: no minimum")
                continue
            grid = np.geomspace(*one.range, 100)
            axes.plot(grid, one(grid), color=color, label=label)
            axes.plot(one.parameters, one.loss, "*", color=color, markersize=13, markeredgecolor="black")
        axes.set(xscale="log", yscale="log")
        _label(axes, "parameters N", "validation loss", "Equal compute (stars: minima)")
        axes.legend(fontsize=8)
        _plain_ticks(axes.yaxis)

    def _sizes(self, axes: Axes, colors: Normalize) -> None:
        import matplotlib as mpl

        shade = mpl.colormaps["plasma"]
        best = [(p.compute, p.parameters) for p in self.parabolas if p.parameters is not None]
        tried = [(p.compute, p.parameters) for p in self.ends]
        axes.plot(*np.array(tried).T, "o", color="0.75", markersize=4, label="runs")
        for compute, parameters in best:
            axes.plot(compute, parameters, "*", color=shade(colors(compute)), markersize=13)
        if self.parameters_of:
            law = self.parameters_of
            grid = np.geomspace(best[0][0], self.target, 50)
            axes.plot(
                grid, law(grid), color="black", label=f"N* = {law.factor:.2g} C$^{{{law.exponent:.3g}}}$"
            )
            axes.axvline(self.target, color="C3", linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log")
        _label(axes, "training compute C (FLOP)", "parameters N", "The size a budget wants")
        axes.legend(fontsize=8)


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3, which="both")


def _plain_ticks(axis: Axis) -> None:
    """0.05 instead of 5 x 10^-2: a loss rarely spans a decade."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_locator(MaxNLocator(1))

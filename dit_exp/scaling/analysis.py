"""From a sweep's runs to everything that is said of how the loss scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dit_exp.scaling import isoflop, law, points
from dit_exp.scaling.advice import STEP_UP, Wanted, flop_of_minutes, wanted
from dit_exp.scaling.correlation import Correlation, correlations
from dit_exp.scaling.isoflop import Parabola, PowerLaw, Sizes
from dit_exp.scaling.law import Law
from dit_exp.scaling.plot import Picture
from dit_exp.scaling.points import Point, Run


@dataclass(frozen=True)
class Analysis:
    """`points` are all, `fitted` those of each budget's best setting, to which `law` is fitted.

    errors         leave-one-out, relative, by cell
    parameters_of  N*(C)   images_of  images*(C); None where fewer than two budgets have a minimum
    sizes          what the sizes tried cost   wanted  what the budget asked for wants
    """

    points: list[Point]
    fitted: list[Point]
    law: Law
    resamples: list[Law]
    errors: dict[int, float]
    parabolas: list[Parabola]
    parameters_of: PowerLaw | None
    images_of: PowerLaw | None
    correlations: list[Correlation]
    sizes: Sizes
    wanted: Wanted

    @property
    def others(self) -> list[Point]:
        kept = {(p.cell, p.compute) for p in self.fitted}
        return [p for p in self.points if (p.cell, p.compute) not in kept]

    def picture(self, ends: Sequence[Point]) -> Picture:
        return Picture(
            self.fitted,
            self.others,
            self.law,
            self.resamples,
            self.parabolas,
            self.parameters_of,
            ends,
            self.wanted.compute,
        )

    def interval(self, name: str) -> list[float] | None:
        """The 95 % interval of one of the law's parameters."""
        if not self.resamples:
            return None
        low, high = law.interval([getattr(one, name) for one in self.resamples])
        return [float(low), float(high)]

    def predicted(self) -> dict[str, Any]:
        """The loss that the law expects at the budget, with its interval."""
        at = self.wanted.compute
        band = law.interval([one(at) for one in self.resamples]) if self.resamples else None
        return {"loss": float(self.law(at)), "interval": [float(v) for v in band] if band else None}

    def numbers(self) -> dict[str, Any]:
        """Everything, as plain values for a JSON file."""
        kept = {(p.cell, p.compute) for p in self.fitted}
        return {
            "law": {
                name: {"value": getattr(self.law, name), "interval": self.interval(name)}
                for name in ("irreducible", "a", "b")
            },
            "leave_one_out": {
                "mean": float(np.mean(list(self.errors.values()))) if self.errors else None,
                "cells": self.errors,
            },
            "parabolas": [asdict(one) for one in self.parabolas],
            "parameters_of_compute": asdict(self.parameters_of) if self.parameters_of else None,
            "images_of_compute": asdict(self.images_of) if self.images_of else None,
            "correlations": [asdict(one) for one in self.correlations],
            "budget": {**asdict(self.wanted), "predicted": self.predicted()},
            "points": [{**asdict(p), "fitted": (p.cell, p.compute) in kept} for p in self.points],
        }


def analyse(
    runs: Sequence[Run],
    slices: int = 0,
    delta: float = 1e-3,
    resamples: int = 500,
    seed: int = 0,
    budget: float | None = None,
    minutes: float | None = None,
) -> Analysis:
    """Fits the law and the parabolas and asks them about a budget.

    slices           budgets at which the runs' curves are read; 0 takes each run at its end
    delta            of the Huber loss, in log L
    resamples, seed  of the bootstrap
    budget, minutes  in FLOP, or in minutes at the speed of the runs; neither is STEP_UP times the largest
    Raises UserError for fewer than four budgets or less than a decade of compute.
    """
    found = points.slices(runs, slices) if slices else points.ends(runs)
    fitted = points.frontier(found)
    points.check(fitted)
    fit = law.fit_points(fitted, delta)
    profiles = isoflop.parabolas(found)
    minima = [one for one in profiles if one.parameters is not None]
    computes, best = [one.compute for one in minima], [float(one.parameters or 0) for one in minima]
    sizes = isoflop.sizes(found)
    parameters_of = isoflop.power_law(computes, best)
    images = [sizes.images(compute, size) for compute, size in zip(computes, best, strict=True)]
    if budget is None and minutes is not None:
        budget = flop_of_minutes(minutes, runs, parameters_of)
    want = wanted(budget or STEP_UP * max(p.compute for p in found), runs, sizes, parameters_of)
    return Analysis(
        found,
        fitted,
        fit,
        law.bootstrap(found, fit, delta, resamples, seed),
        law.leave_one_out(fitted, delta),
        profiles,
        parameters_of,
        isoflop.power_law(computes, images),
        correlations(runs),
        sizes,
        want,
    )

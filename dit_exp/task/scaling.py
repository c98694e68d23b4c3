"""task=scaling sweep=PARENT: how the loss of a sweep's runs scales with compute, and what to run next."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

from dit_exp.errors import UserError
from dit_exp.scaling.advice import following
from dit_exp.scaling.analysis import Analysis, analyse
from dit_exp.scaling.following import command, write
from dit_exp.scaling.points import budgets, ends
from dit_exp.sweep.find import find
from dit_exp.sweep.parent import afterwards
from dit_exp.task.parts import Setting
from dit_exp.task.scaled import runs_of

log = logging.getLogger(__name__)

TRUSTED = 6
"""Budgets from which on the 95 % intervals hold the truth as often as they say, see docs/scaling.md."""


def scaling(
    setting: Setting,
    sweep: str,
    slices: int = 0,
    delta: float = 1e-3,
    resamples: int = 500,
    seed: int = 0,
    budget: float | None = None,
    minutes: float | None = None,
) -> None:
    """Writes scaling.json and scaling.png into the run directory and the sweep's MLflow run.

    The next sweep goes to the folder next/ of the sweep, after the fit is written and said.
    analysis.analyse explains the other arguments.
    """
    check(slices, delta, resamples, budget, minutes)
    found = find(sweep, setting.config["tracker"].get("uri"), setting.run_dir / "sweep")
    runs = runs_of(found, slices)
    result = analyse(runs, slices, delta, resamples, seed, budget, minutes)
    numbers, picture = setting.run_dir / "scaling.json", setting.run_dir / "scaling.png"
    with afterwards(setting.tracker, found, setting.names("tracker.uri")) as tracker:
        setting.run_dir.mkdir(parents=True, exist_ok=True)
        numbers.write_text(json.dumps(result.numbers(), indent=2) + "\n")
        result.picture(ends(runs)).save(picture)
        for line in sentences(result):
            log.info("%s", line)
        log.info("Picture: %s", picture)
        files = [numbers, picture]
        if choices := following(result.wanted, runs, result.sizes):
            folder = found.folder.resolve() / "next"
            path = write(folder, found.name, result.wanted, choices, runs)
            numbers.write_text(json.dumps(result.numbers() | {"next": str(path)}, indent=2) + "\n")
            files.append(path)
            log.info("Next sweep, %s: %s", path, command(folder, path.stem))
        else:
            log.info("No next sweep is written: the models have no model.width, by which to set their size.")
        tracker.log({"scaling_b": result.law.b, "scaling_irreducible": result.law.irreducible}, 0)
        for file in files:
            tracker.artifact(file)


def check(slices: int, delta: float, resamples: int, budget: float | None, minutes: float | None) -> None:
    """Raises UserError for arguments that mean nothing."""
    if slices < 0 or delta <= 0 or resamples < 40:
        raise UserError(
            f"task.slices={slices} must be 0 or more, task.delta={delta} above 0, and task.resamples="
            f"{resamples} at least 40, for an interval of 95 %."
        )
    if budget is not None and minutes is not None:
        raise UserError("task.budget is in FLOP and task.minutes in minutes of training. Pass one of them.")
    for name, value in (("budget", budget), ("minutes", minutes)):
        if value is not None and value <= 0:
            raise UserError(f"task.{name}={value} must be above 0.")


def sentences(result: Analysis) -> Iterator[str]:
    """What was found, a line each."""

    def band(name: str) -> str:
        found = result.interval(name)
        return f" [{found[0]:.4g}, {found[1]:.4g}]" if found else ""

    fit, want = result.law, result.wanted
    yield (
        f"L(C) = {fit.irreducible:.4g}{band('irreducible')} + {fit.a:.4g}{band('a')} "
        f"C^-{fit.b:.4g}{band('b')}, from {len(result.fitted)} of {len(result.points)} points"
        + (", 95 % intervals in brackets" if result.resamples else ", too few runs for intervals")
    )
    count = len(budgets(result.fitted))
    if result.resamples and count < TRUSTED:
        yield f"The intervals are too narrow: {count} budgets are few, {TRUSTED} are enough"
    if result.errors:
        errors = list(result.errors.values())
        yield f"Leave-one-out error: {sum(errors) / len(errors):.2%} on average, {max(errors):.2%} at most"
    if not result.parabolas:
        yield "No budget was spent on three sizes, so none is known to be best (task.slices=12 reads curves)"
    for one in result.parabolas:
        said = one.reason or f"{(one.parameters or 0) / 1e6:.3g} M parameters are best"
        yield f"{one.compute:.3g} FLOP: {said}"
    if result.parameters_of and result.images_of:
        sizes, images = result.parameters_of, result.images_of
        yield (
            f"N* = {sizes.factor:.3g} C^{sizes.exponent:.3g}, "
            f"images* = {images.factor:.3g} C^{images.exponent:.3g}"
        )
    for one in result.correlations:
        yield (
            f"Correlation of log GMAC and {one.score}: {one.r:.2f}, {one.runs} runs of {one.images} images "
            "(DiT reports -0.93 for FID)"
        )
    predicted = result.predicted()
    expected = f"{predicted['loss']:.4g}"
    if predicted["interval"]:
        expected += " [{:.4g}, {:.4g}]".format(*predicted["interval"])
    yield (
        f"{want.compute:.3g} FLOP want {want.parameters / 1e6:.3g} M parameters and {want.steps} steps "
        f"({want.images:.3g} images), by {want.source}; expected loss {expected}"
    )

"""Time to images as good as those of 250 steps of DDPM, for a trained run (--run).

The first sampler of a list, in order of network evaluations, whose distance is at most 2 % above that of DDPM
on one set of seeds, and then on another one too, whose images both draw by turns. Left out without a run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.paired import Quartiles, Row, Setting, compared
from benchmarks.trained import draw, parts_of

if TYPE_CHECKING:
    from dit_exp.task.parts import Parts

NAME, REACH, WITHIN = "sampling to quality", 15.0, 1.02
BASE = ["sampler=ddpm", "sampler.steps=250"]
TRIED = {
    f"{sampler}, {steps} steps": [f"sampler={sampler}", *words, f"sampler.steps={steps}"]
    for steps in (8, 12, 16, 20, 25, 35, 50)
    for sampler, *words in (("dpmpp_2m", "grid=karras"), ("unipc", "grid=karras"), ("dpmpp_sde",), ("ddpm",))
}
"""The first two add no noise on the way, the others do."""

SAMPLES, PIECES = 500, 5
"""Images of each of the two sets of seeds, and the pieces in which they are drawn and timed."""


def rows(setting: Setting) -> Iterator[Row]:
    if setting.run is None:
        return
    samples = setting.size(SAMPLES, 2 * PIECES)
    choosing, confirming = range(samples), range(samples, 2 * samples)
    tried = dict(list(TRIED.items())[:1]) if setting.quick else TRIED
    with tempfile.TemporaryDirectory() as folder:
        base = parts_of(setting.run, BASE, Path(folder))
        name, bar = _scored(base, choosing)
        failed = []
        for label, words in tried.items():
            other = parts_of(setting.run, words, Path(folder))
            _, value = _scored(other, choosing)
            if value <= WITHIN * bar:
                times, ours, theirs = _by_turns(other, base, confirming)
                if ours <= WITHIN * theirs:
                    peer = f"ddpm, 250 steps, at {theirs:.1f}"
                    work = f"{name} of {samples} within 2 %: {label} at {ours:.1f}"
                    yield compared(
                        {"ours": times["ours"], peer: times["base"]}, "ours", peer, NAME, work, REACH
                    )
                    return
                value = ours
            failed.append(f"{label} {value:.1f}")
        work = f"{name} within 2 % of {bar:.1f}: none of {'; '.join(failed)}"
        yield Row(NAME, work, "ddpm, 250 steps", None, None, Quartiles(0, 0, 0), REACH)


def _pieces(indices: range) -> list[range]:
    size = len(indices) // PIECES
    return [range(start, start + size) for start in indices[::size]]


def _scored(parts: Parts, indices: range) -> tuple[str, float]:
    """Name and value of the leading score of these images."""
    parts.metrics.prepare(parts.data)
    for piece in _pieces(indices):
        _, images, _ = draw(parts, None, piece)
        parts.metrics.update(images, piece.start)
    return _leading(parts)


def _leading(parts: Parts) -> tuple[str, float]:
    [(name, value), *_] = parts.metrics.compute()[0].items()
    return name, value


def _by_turns(ours: Parts, base: Parts, indices: range) -> tuple[dict[str, list[float]], float, float]:
    """Seconds of each piece by both, the order turned every other piece, and the two scores.

    Seconds of the drawing alone: what a score costs is the same for all samplers.
    """
    both = {"ours": ours, "base": base}
    times: dict[str, list[float]] = {name: [] for name in both}
    for parts in both.values():
        parts.metrics.prepare(parts.data)
    for turn, piece in enumerate(_pieces(indices)):
        for name in list(both)[:: 1 if turn % 2 else -1]:
            _, images, taken = draw(both[name], None, piece)
            both[name].metrics.update(images, piece.start)
            times[name].append(taken)
    return times, _leading(ours)[1], _leading(base)[1]

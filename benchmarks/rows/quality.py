"""Time to images as good as those of 250 steps of DDPM, for a trained run (--run).

All samplers draw the same images by turns, piece by piece, in bf16. The row is of the fastest whose distance
is at most 2 % above DDPM's; a distance of so few images is for this comparison alone. Without a run it is not
measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.paired import Quartiles, Row, Setting, compared, not_measured
from benchmarks.trained import draw, parts_of

NAME, REACH, WITHIN = "sampling to quality", 15.0, 1.02
BASE = "ddpm, 250 steps"
TRIED = {
    f"{sampler}, {steps} steps": [f"sampler={sampler}", *words, f"sampler.steps={steps}"]
    for steps in (8, 16)
    for sampler, *words in (("dpmpp_2m", "grid=karras"), ("ddpm",))
}
"""The first of each two adds no noise on the way, the other does."""

SAMPLES, PIECES = 240, 4


def rows(setting: Setting) -> Iterator[Row]:
    if setting.run is None:
        yield not_measured(NAME, "needs a trained run: RUN=DIR")
        return
    samples = setting.size(SAMPLES, PIECES)
    words = {BASE: ["sampler=ddpm", "sampler.steps=250"], **TRIED}
    with tempfile.TemporaryDirectory() as folder:
        all_parts = {
            name: parts_of(setting.run, [*chosen, "trainer.precision=bf16"], Path(folder))
            for name, chosen in words.items()
        }
        for parts in all_parts.values():
            parts.metrics.prepare(parts.data)
        times: dict[str, list[float]] = {name: [] for name in words}
        for turn, start in enumerate(range(0, samples, samples // PIECES)):
            for name in list(words)[:: 1 if turn % 2 else -1]:
                parts = all_parts[name]
                _, images, taken = draw(parts, None, range(start, start + samples // PIECES))
                parts.metrics.update(images, start)
                times[name].append(taken)
        scores = {name: next(iter(parts.metrics.compute()[0].items())) for name, parts in all_parts.items()}
    yield chosen_of(
        times, {name: value for name, (_, value) in scores.items()}, f"{scores[BASE][0]}, n={samples}"
    )


def chosen_of(times: dict[str, list[float]], values: dict[str, float], score: str) -> Row:
    """The row of the fastest within the bound; of none within it, a row that falls short. The first piece of
    each is not counted.
    """
    peer = f"{BASE}, at {values[BASE]:.1f}"
    good = [name for name in times if name != BASE and values[name] <= WITHIN * values[BASE]]
    if not good:
        tried = "; ".join(f"{name} {value:.1f}" for name, value in values.items() if name != BASE)
        return Row(NAME, f"{score}: none of {tried}", peer, None, None, Quartiles(0, 0, 0), REACH)
    fastest = min(good, key=lambda name: sum(times[name][1:]))
    both = {fastest: times[fastest][1:], peer: times[BASE][1:]}
    return compared(both, fastest, peer, NAME, f"{score}: {fastest} at {values[fastest]:.1f}", REACH)

"""Time to images as good as those of 250 steps of DDPM, for a trained run (--run).

The first sampler of a list, in order of network evaluations, whose distance is within 2 % of that of DDPM,
both with the same seeds, count and reference. Left out without a run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.paired import Quartiles, Row, Setting
from benchmarks.trained import parts_of

REACH, WITHIN = 15.0, 1.02
BASE = ["sampler=ddpm", "sampler.steps=250"]
TRIED = {
    f"{sampler}, {steps} steps": [f"sampler={sampler}", "grid=karras", f"sampler.steps={steps}"]
    for steps in (8, 12, 16, 20, 25, 35, 50)
    for sampler in ("dpmpp_2m", "dpmpp_3m", "unipc")
}
SAMPLES = 1000


def rows(setting: Setting) -> Iterator[Row]:
    if setting.run is None:
        return
    samples = setting.size(SAMPLES, 8)
    with tempfile.TemporaryDirectory() as folder:
        name, base, base_seconds = score(setting.run, BASE, samples, Path(folder))
        tried = []
        for label, words in TRIED.items():
            _, value, seconds = score(setting.run, words, samples, Path(folder))
            tried.append(f"{label} {value:.1f}")
            if value <= WITHIN * base:
                ratio = Quartiles(*3 * [base_seconds / seconds])
                peer = f"ddpm, 250 steps, at {base:.1f}"
                work = f"{name} of {samples} within 2 %: {label} at {value:.1f}"
                yield Row("sampling to quality", work, peer, seconds, base_seconds, ratio, REACH)
                return
            if setting.quick:
                break
        work = f"{name} within 2 % of {base:.1f}: none of {'; '.join(tried)}"
        yield Row(
            "sampling to quality", work, "ddpm, 250 steps", None, base_seconds, Quartiles(0, 0, 0), REACH
        )


def score(run: Path, words: list[str], samples: int, folder: Path) -> tuple[str, float, float]:
    """The leading score of a run's samples, its name, and the seconds that drawing them took.

    Seconds of the samples alone: what a score costs is the same for all samplers.
    """
    from dit_exp.task.generate import generate

    parts = parts_of(run, words, folder)
    parts.metrics.prepare(parts.data)
    model, batch = parts.model.eval(), min(250, samples)
    started = time.perf_counter()
    drawn = list(generate(parts, model, samples, batch))
    seconds = time.perf_counter() - started
    for one in drawn:
        parts.metrics.update(one.images, one.start)
    [(name, value), *_] = parts.metrics.compute()[0].items()
    return name, value, seconds

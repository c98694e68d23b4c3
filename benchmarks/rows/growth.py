"""How a training step's cost grows with tokens, batch and processes: an exponent each.

Time is proportional to a power of the number; 1 is in proportion. For processes it is images a second.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import PROJECT
from benchmarks.paired import Row, Setting, interleaved, quartiles
from benchmarks.peers import TINY, Size, batch_of, our_step, ours

ROUNDS, LAUNCHES = 3, 2
"""Exponents are fitted over more than a decade, so few rounds tell them. Launches take ten seconds each."""

NARROW = Size(4, 192, 3, 4)


def exponent(numbers: Sequence[int], values: Sequence[float]) -> float:
    """The slope of log value over log number, by least squares."""
    return float(np.polyfit(np.log(numbers), np.log(values), 1)[0])


def rows(setting: Setting) -> Iterator[Row]:
    size = TINY if setting.quick else NARROW
    few = Setting(setting.device, min(ROUNDS, setting.rounds), setting.quick)
    sides = (16, 32) if setting.quick else (32, 64, 128)
    sizes = {(side // size.patch) ** 2: size._replace(side=side) for side in sides}
    yield _row("tokens", {tokens: (one, 4) for tokens, one in sizes.items()}, few)
    batches = (2, 4) if setting.quick else (16, 64, 256)
    yield _row("batch", {images: (size, images) for images in batches}, few)
    yield _processes(few)


def _row(what: str, works: dict[int, tuple[Size, int]], setting: Setting) -> Row:
    jobs = {}
    for number, (size, images) in works.items():
        batch = batch_of(size, images, setting.device)
        jobs[str(number)] = our_step(ours(size), "fp32", False, batch, setting.device)
    times = interleaved(jobs, setting)
    fitted = [exponent([*works], values) for values in zip(*times.values(), strict=True)]
    numbers = " ".join(f"{n}: {1000 * statistics.median(times[str(n)]):,.0f} ms," for n in works).rstrip(",")
    shape = next(iter(works.values()))[0]
    work = f"train step of {shape.depth} x {shape.width}, {what} {numbers}"
    return Row("cost of growth", work, "", None, None, quartiles(fitted), figure="exponent {:.2f}")


def _processes(setting: Setting) -> Row:
    """Images a second of 1 and of 2 processes, each with one thread and 32 images a step."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    steps = setting.size(40, 3)
    for turn in range(min(LAUNCHES, setting.rounds)):
        for count in list(rates)[:: 1 if turn % 2 else -1]:
            rates[count].append(_rate(count, steps))
    slopes = [exponent([1, 2], values) for values in zip(*rates.values(), strict=True)]
    each = ", ".join(f"{count}: {statistics.median(found):,.0f} img/s" for count, found in rates.items())
    work = f"processes {each}"
    return Row("cost of growth", work, "", None, None, quartiles(slopes), figure="exponent {:.2f}")


def _rate(processes: int, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "data=digits", "data.image_size=16", "model.width=128", "model.depth=4", "model.heads=4",
            "metrics=none", "tracker=none", "sampler.steps=1", f"trainer.max_steps={steps}",
            f"trainer.batch_size={32 * processes}", "trainer.sample_every=0", f"run_dir={folder}/run",
        ]  # fmt: skip
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        done = subprocess.run(
            [sys.executable, *launcher, str(PROJECT / "run.py"), *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"DIT_EXP_CACHE": folder, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        if done.returncode:
            raise AssertionError(f"{processes} processes failed: {done.stderr[-2000:]}")
        return json.loads(Path(folder, "run", "metrics.json").read_text())["images_per_second"]

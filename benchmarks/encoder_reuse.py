"""What it gives and costs to keep a trained run's first blocks between evaluations.

Prints a markdown table: for each share of evaluations at which they are kept, and each way to place the
others, how often the first blocks are run, the time of an image, how many times as fast that is as keeping
nothing, the run's leading score, and how far the samples are from those of the same noise without keeping, as
a share of their norm. All ways draw each piece of images by turns, in an order that turns too; times are
medians over pieces, the first of which is thrown away.
Run: python -m benchmarks.encoder_reuse RUN_DIR [--images N] [--batch-size B] [--ratios R,R] [--placed W,W]
    [KEY=VALUE ...]
Say, with the run's own sampler in another number of steps: ... RUN_DIR sampler.steps=100
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.command import positive, told
from benchmarks.trained import draw, parts_of

if TYPE_CHECKING:
    from dit_exp.sampler.reuse.plan import Plan
    from dit_exp.task.parts import Parts

RATIOS = (0.5, 0.67, 0.75, 0.8, 0.87)
PLACED = ("uniform", "planned", "forecast")
"""Ways to place the evaluations at which the first blocks are run."""


@dataclass
class Way:
    """One way to keep blocks, with what was measured of it.

    seconds   of each piece of images
    distance  of each image from the one without keeping, as a share of that one's norm
    """

    ratio: float
    name: str
    parts: Parts
    plan: Plan | None
    seconds: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    score: tuple[str, float] | None = None

    @property
    def encoder_evaluations(self) -> int:
        return len(self.plan.runs) if self.plan else self.parts.sampler.evaluations


def ways(parts: Parts, ratios: Sequence[float], depth: int | None, placed: Sequence[str]) -> list[Way]:
    """Keeping nothing, then each ratio in each way of PLACED that is named; each with metrics of its own."""
    from dit_exp.sampler.reuse.forecast import Forecast
    from dit_exp.sampler.reuse.none import NoReuse
    from dit_exp.sampler.reuse.planned import Planned
    from dit_exp.sampler.reuse.uniform import Uniform
    from dit_exp.task.generate import trajectory
    from dit_exp.task.reuse import plan_of

    kinds = dict(zip(PLACED, (Uniform, Planned, Forecast), strict=True))
    chosen = [(0.0, "none", NoReuse())]
    chosen += [(ratio, name, kinds[name](ratio, depth)) for ratio in ratios for name in placed]
    found = []
    for ratio, name, reuse in chosen:
        own = replace(parts, reuse=reuse, metrics=copy.copy(parts.metrics))
        if own.metrics.num_samples:
            own.metrics.prepare(own.data)
        found.append(Way(ratio, name, own, plan_of(own, own.model, trajectory)))
    return found


def measure(
    parts: Parts,
    ratios: Sequence[float],
    count: int,
    batch_size: int,
    depth: int | None = None,
    placed: Sequence[str] = PLACED,
) -> list[Way]:
    """Draws `count` images in each way, in pieces by turns."""
    found = ways(parts, ratios, depth, placed)
    for piece, start in enumerate(range(0, count, batch_size)):
        turn = piece % len(found)
        latents = {}
        for way in found[turn:] + found[:turn]:
            latents[way.ratio, way.name], images, seconds = draw(
                way.parts, way.plan, range(start, start + batch_size)
            )
            way.seconds.append(seconds)
            if way.parts.metrics.num_samples:
                way.parts.metrics.update(images[: count - start], start)
        plain = latents[0.0, "none"].flatten(1)
        for way in found:
            apart = (latents[way.ratio, way.name].flatten(1) - plain).norm(dim=1) / plain.norm(dim=1)
            way.distance += apart[: count - start].tolist()
        print(f"{min(start + batch_size, count)} of {count} images", file=sys.stderr, flush=True)
    for way in found:
        if way.parts.metrics.num_samples:
            way.score = next(iter(way.parts.metrics.compute()[0].items()))
    return found


def table(found: list[Way], count: int, batch_size: int) -> str:
    """The measurements in markdown."""
    plain = found[0]
    timed = slice(1, None) if len(plain.seconds) > 1 else slice(None)
    score = f"{plain.score[0] if plain.score else 'score'}, n={count}"
    heads = ("kept", "placed", "encoder evaluations", "s an image", "times as fast", score, "distance")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for way in found:
        seconds = statistics.median(way.seconds[timed]) / batch_size
        pairs = zip(plain.seconds[timed], way.seconds[timed], strict=True)
        faster = statistics.median(without / kept for without, kept in pairs)
        cells = (
            f"{way.ratio:g}",
            way.name,
            f"{way.encoder_evaluations} of {way.parts.sampler.evaluations}",
            f"{seconds:.4f}",
            f"{faster:.2f}",
            "not measured" if way.score is None else f"{way.score[1]:.2f}",
            f"{statistics.mean(way.distance):.4f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="a run directory or a checkpoint file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for task=evaluate")
    parser.add_argument("--images", type=positive, help="to draw in each way; metrics.num_samples")
    parser.add_argument("--batch-size", type=positive, default=250, help="images drawn at once")
    parser.add_argument("--depth", type=positive, help="blocks that are kept; the model's encoder_depth")
    parser.add_argument("--ratios", help="at what shares of evaluations they are kept: 0.5,0.8")
    parser.add_argument("--placed", default=",".join(PLACED), help="where the others lie: planned,forecast")
    parser.add_argument("--quick", action="store_true", help="few images, and no score")
    given = parser.parse_intermixed_args(words)
    line = ["sampler.reuse=none", *given.overrides, *(["metrics=none"] if given.quick else [])]
    with tempfile.TemporaryDirectory() as folder:
        parts = parts_of(Path(given.run), line, Path(folder))
        count = given.images or (8 if given.quick else parts.metrics.num_samples)
        if not count:
            parser.error("The run has metrics=none: pass --images N, or metrics=offline.")
        batch_size = min(given.batch_size, max(1, count // 2) if given.quick else count)
        ratios = RATIOS[:3:2] if given.quick else RATIOS
        if given.ratios is not None:
            ratios = tuple(map(float, given.ratios.split(",")))
        placed = given.placed.split(",")
        if unknown := set(placed) - set(PLACED):
            parser.error(f"--placed {', '.join(sorted(unknown))}: choose from {', '.join(PLACED)}.")
        found = measure(parts, ratios, count, batch_size, given.depth, placed)
        kinds = ("model", "process", "objective", "sampler", "grid", "guidance")
        print(", ".join(f"{kind}={parts.choices[kind]}" for kind in kinds) + f", device={parts.device}\n")
        print(table(found, count, batch_size))


if __name__ == "__main__":
    sys.exit(told(main))

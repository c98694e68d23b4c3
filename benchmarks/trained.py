"""A trained run as an evaluation of it is built, for the benchmarks that need one."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dit_exp.sampler.reuse.plan import Plan
    from dit_exp.task.parts import Parts


def check_scored(run: Path) -> None:
    """Raises UserError for what is no run, and for one that says nothing of how its images are scored."""
    from dit_exp import checkpoint
    from dit_exp.errors import UserError

    _, stored = checkpoint.find(str(run))
    if stored["choices"]["metrics"] == "none":
        raise UserError(
            f"{run} has metrics=none, so nobody can say how good its images are. Pass a run with scores."
        )


def parts_of(run: Path, words: list[str], folder: Path) -> Parts:
    """What `task=evaluate` with these words builds, its model as it draws, and without a tracker.

    run     a run directory or a checkpoint file
    folder  takes what is written
    """
    from composing import composed

    from dit_exp.build import build
    from dit_exp.nn.narrow import drawing

    given = [f"checkpoint={run.resolve()}", "task=evaluate", "tracker=none", *words]
    cfg, choices = composed(given)
    parts = build(cfg, choices, given, folder)
    return replace(parts, model=drawing(parts.model, parts.trainer.precision, parts.device))


def draw(parts: Parts, plan: Plan | None, indices: range) -> tuple[Tensor, Tensor, float]:
    """Latents, uint8 images and the seconds that they took; `plan` says where first blocks are kept."""
    from dit_exp.sampler.reuse.network import following
    from dit_exp.task.generate import decode, trajectory

    started = time.perf_counter()
    network = following(parts.model, plan)
    [x] = deque(trajectory(parts, network, indices), maxlen=1)
    images = decode(parts, x)  # on the CPU, so whatever the device had to do is done
    return x, images, time.perf_counter() - started

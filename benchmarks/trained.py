"""A trained run as an evaluation of it is built, for the benchmarks that need one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit_exp.task.parts import Parts


def parts_of(run: Path, words: list[str], folder: Path) -> Parts:
    """What `task=evaluate` with these words builds, without a tracker; `folder` takes what is written.

    run  a run directory or a checkpoint file
    """
    from composing import composed

    from dit_exp.build import build

    given = [f"checkpoint={run.resolve()}", "task=evaluate", "tracker=none", *words]
    cfg, choices = composed(given)
    return build(cfg, choices, given, folder)

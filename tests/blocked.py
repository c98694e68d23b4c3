"""A run of two processes that is told to stop while its main process waits for the other one's share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from dit_exp import parallel
from dit_exp.sweep import launcher
from dit_exp.task.directory import terminable


class Blocked(launcher.SlurmLauncher):
    """The launcher as a job holds it, whose run does nothing but draw and gather."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.config = OmegaConf.create({"hydra": {"job": {}, "sweep": {"dir": str(place)}}})
        self.hydra_context = self.config_loader = self  # type: ignore[assignment]
        self.task_function = print

    def load_sweep_config(self, config: Any, overrides: list[str]) -> Any:
        return config

    def __call__(self, *arguments: Any) -> JobReturn:
        launcher.run_job = self.draw
        return super().__call__(*arguments)

    def draw(self, **_: Any) -> None:
        here, place = parallel.start(), Path(self.config.hydra.sweep.dir)
        with terminable(place):
            parallel.gathered(here.rank)
            (place / f"ready{here.rank}").touch()
            if not here.main:
                time.sleep(300)  # its share, which takes longer
            parallel.gathered(here.rank)

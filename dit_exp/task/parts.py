"""The connected parts of one run, as build.py hands them to a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dit_exp.errors import UserError
from dit_exp.objective.prediction import Prediction
from dit_exp.sampler.reuse.plan import Reuse
from dit_exp.sampler.walk import Sampler
from dit_exp.trainer.loop import Trainer
from dit_exp.types.data import Augment, Autoencoder, DataSet
from dit_exp.types.diffusion import Guidance, Process
from dit_exp.types.network import Model
from dit_exp.types.training import Alignment, Metric, Tracker


@dataclass
class Setting:
    """What every task is handed, also one that needs no model.

    `config` is the resolved configuration as plain values, `choices` the name chosen in each group.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str]
    run_dir: Path
    tracker: Tracker

    def names(self, key: str) -> bool:
        """Whether the command line sets a key."""
        return any(override.lstrip("+").partition("=")[0] == key for override in self.overrides)


@dataclass
class Encoding(Setting):
    """What a task is handed that reads data through an autoencoder and needs no model."""

    device: torch.device
    data: DataSet
    autoencoder: Autoencoder


@dataclass
class Stage(Encoding):
    """What every training is handed. An autoencoder's needs no more, so for it no model is built."""

    seed: int
    optimizer: Callable[[Iterable[Any]], Optimizer]
    trainer: Trainer
    metrics: Metric


@dataclass
class Parts(Stage):
    """What is aligned in training is aligned by `alignment`, which does nothing where nothing is trained.

    `guide` is the network that guidance has of its own, or None. `source` is the checkpoint that the weights
    came from, with its step, images and seconds, or None."""

    augment: Augment
    model: Model
    process: Process
    objective: Prediction
    alignment: Alignment
    guidance: Guidance
    guide: Model | None
    sampler: Sampler
    reuse: Reuse
    grid: Callable[[Process, int], Tensor]
    source: dict[str, Any] | None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.autoencoder.latent_shape(self.data.image_shape)


def trained(parts: Parts) -> dict[str, Any]:
    """The checkpoint that the weights came from. Raises UserError where there is none."""
    if parts.source is None:
        raise UserError(
            f"task={parts.choices['task']} needs a trained model. Pass checkpoint=RUN_DIR or a checkpoint "
            "file."
        )
    return parts.source

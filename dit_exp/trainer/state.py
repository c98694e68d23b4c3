"""What a checkpoint holds of a run in progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from dit_exp.alignment.none import NoAlignment
from dit_exp.checkpoint import load_weights
from dit_exp.types.network import Trainable
from dit_exp.types.training import Alignment, Objective


@dataclass
class TrainState:
    """Weights, their average, what is learned beside them, the optimizer, and how far the run is.

    `whole` gives a module all its weights where processes share them; `memory_gib` is the peak of this
    process's training, which no checkpoint holds, None where it is not known. No generator state: every step
    draws from a stream of its own number.
    """

    model: Trainable
    ema: AveragedModel | None
    objective: nn.Module
    optimizer: Optimizer
    whole: Callable[[nn.Module], nn.Module]
    alignment: Alignment = field(default_factory=NoAlignment)
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    memory_gib: float | None = None

    @property
    def beside(self) -> list[nn.Parameter]:
        """Parameters that are trained with the network's and are not of it."""
        return [*self.objective.parameters(), *self.alignment.parameters()]

    @property
    def weights(self) -> nn.Module:
        """What to sample from: the average where there is one. Every process must ask."""
        return self.whole(self.ema.module if self.ema is not None else self.model)

    def state_dict(self, config: dict[str, Any], choices: dict[str, str]) -> dict[str, Any]:
        return {
            "config": config,
            "choices": choices,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "alignment": self.alignment.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "ema_updates": int(self.ema.n_averaged) if self.ema is not None else 0,
        }

    def load(self, state: dict[str, Any], source: Path) -> None:
        load_weights(self.model, state["model"], source)
        self.objective.load_state_dict(state["objective"])
        self.alignment.load_state_dict(state["alignment"])
        settings = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, given in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(given)  # the command line's, which may have changed
        if self.ema is not None:
            load_weights(self.ema.module, state["ema"] or state["model"], source)
            self.ema.n_averaged.fill_(state["ema_updates"])
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]


def training_state(
    model: Trainable,
    ema: AveragedModel | None,
    objective: Objective,
    alignment: Alignment,
    optimizer: Callable[[Iterable[Any]], Optimizer],
    whole: Callable[[nn.Module], nn.Module],
) -> TrainState:
    """The state of a run that starts, its optimizer over all that is trained.

    Parameters have their names, by which muon tells matrices of blocks from others.
    """
    groups: list[dict[str, Any]] = [{"params": list(model.named_parameters())}]
    parts = (("objective", objective), ("alignment", alignment))
    if beside := [(f"{at}.{name}", p) for at, part in parts for name, p in part.named_parameters()]:
        groups.append({"params": beside})
    return TrainState(model, ema, objective, optimizer(groups), whole, alignment)

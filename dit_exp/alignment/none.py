"""The objective's loss alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dit_exp.types.network import Model
from dit_exp.types.training import Alignment, Objective


class NoAlignment(Alignment):
    """Learns nothing and adds nothing."""

    def __init__(self, model: Model | None = None, channels: int = 3) -> None:
        """Every alignment is told the model and the images' channels; this one has no use for them."""
        super().__init__()
        self.source = {}

    def forward(
        self,
        objective: Objective,
        network: Callable[..., Any],
        x0: Tensor,
        label: Tensor | None,
        image: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to descend and the losses to log by name, all scalars."""
        loss = objective.loss(network, x0, label).mean()
        return loss, {"loss": loss}

"""No discriminator: the other losses alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class NoDiscriminator:
    """Asks nothing and learns nothing."""

    def to(self, device: torch.device) -> NoDiscriminator:
        return self

    def penalty(self, image: Tensor, rest: Tensor, last_layer: Tensor, step: int) -> Tensor:
        return torch.zeros_like(rest)

    def learn(self, pieces: Sequence[tuple[Tensor, Tensor]], step: int) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""

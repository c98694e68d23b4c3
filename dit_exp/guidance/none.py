"""No guidance: the network's own answer for the label."""

from __future__ import annotations

from torch import Tensor

from dit_exp.types import Network


class NoGuidance:
    """(network, x_t, t, label) -> the network's output."""

    def __init__(self, null_label: int | None = None) -> None:
        """Every guidance is told the model's null label; this one has no use for it."""

    def __call__(self, network: Network, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return network(x, t, label)

"""Exponential moving average of the weights, by torch's AveragedModel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def decay_at(updates: int, decay: float) -> float:
    """The decay of update number `updates`, growing to `decay`.

    A constant 0.9999 would still hold a third of the initial weights after ten thousand steps; this one
    averages over about the last tenth of a short run.
    """
    return min(decay, (1 + updates) / (10 + updates))


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model; each `update_parameters(model)` moves it, the first one all the way."""

    @torch.no_grad()
    def move(average: list[Tensor], current: list[Tensor], _: Tensor | int) -> None:
        # Its own count lies on the CPU; the one it passes is a copy on the device, and reading that waits.
        updates = int(ema.n_averaged)
        torch._foreach_lerp_(average, current, 1 - decay_at(updates, decay))  # pyright: ignore

    ema = AveragedModel(model, multi_avg_fn=move)  # pyright: ignore
    return ema.requires_grad_(False).eval()

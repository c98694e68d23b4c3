"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dit_exp.types import Network


class ClassifierFreeGuidance:
    """out = null + scale (conditional - null); scale 1 is off, 0 is unconditional.

    channels  "all", or how many of the first ones are guided; published DiT scores guide the first 3 of 4.
              Channels beyond x's own (a learned variance) stay as the label's pass predicts them.
    interval  guide only where interval[0] <= t <= interval[1]; elsewhere the null pass is not computed.
    Source: Ho & Salimans 2022, arXiv:2207.12598; interval: Kynkaanniemi et al. 2024, arXiv:2404.07724.
    Raises ValueError for a model that has no null label.
    """

    def __init__(
        self,
        null_label: int | None,
        scale: float = 1.5,
        channels: int | str = "all",
        interval: Sequence[float] = (0.0, 1.0),
    ) -> None:
        if null_label is None:
            raise ValueError(
                "guidance=cfg needs a model with a null label, and this one has none (it was built with "
                "model.class_dropout=0 or on data without classes). Use guidance=none, or train with "
                "model.class_dropout=0.1."
            )
        if channels != "all" and (isinstance(channels, str) or channels < 1):
            raise ValueError(f"guidance.channels={channels} must be all or a number of channels from 1.")
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"guidance.interval={list(interval)} must be [low, high] within [0, 1].")
        self.null_label, self.scale, self.channels = null_label, scale, channels
        self.low, self.high = interval

    def __call__(self, network: Network, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        if self.scale == 1 or not self.low <= float(t[0]) <= self.high:
            return network(x, t, label)
        both = torch.cat([label, torch.full_like(label, self.null_label)])
        conditional, null = network(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        guided = x.shape[1] if isinstance(self.channels, str) else min(self.channels, x.shape[1])
        mixed = torch.lerp(null[:, :guided], conditional[:, :guided], self.scale)
        return torch.cat([mixed, conditional[:, guided:]], dim=1)

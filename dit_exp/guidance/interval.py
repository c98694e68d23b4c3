"""Classifier-free guidance within an interval of times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dit_exp.guidance.classifier_free import ClassifierFree


class IntervalGuidance(ClassifierFree):
    """w = scale where interval[0] <= t <= interval[1], and 1 elsewhere. The time is that of each evaluation.

    Source: Kynkaanniemi et al. 2024, arXiv:2404.07724.
    """

    def __init__(
        self,
        null_label: int | None,
        scale: float = 2.0,
        interval: Sequence[float] = (0.1, 0.7),
        channels: int | str | Sequence[int] = "all",
        skip: bool = True,
    ) -> None:
        super().__init__(null_label, scale, channels, skip)
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"guidance.interval={list(interval)} must be [low, high] within [0, 1].")
        self.low, self.high = interval

    def scale_at(self, t: Tensor) -> Tensor:
        return torch.where((t >= self.low) & (t <= self.high), super().scale_at(t), 1)

"""Classifier-free guidance that grows late, as a cosine of a power of time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from dit_exp.guidance.classifier_free import ClassifierFree


class PowerCosineGuidance(ClassifierFree):
    """w = 1 + (scale - 1) (1 - cos(pi (1 - t)^power)) / 2: 1 for pure noise and `scale` at the data.

    Source: Hatamizadeh et al. 2023 (DiffiT), arXiv:2312.02139; the cosine, Gao et al. 2023, arXiv:2303.14389.
    """

    def __init__(
        self,
        null_label: int | None,
        scale: float = 4.6,
        power: float = 4.0,
        channels: int | str | Sequence[int] = "all",
        skip: bool = True,
    ) -> None:
        super().__init__(null_label, scale, channels, skip)
        if power <= 0:
            raise ValueError(f"guidance.power={power} must be above 0.")
        self.power = power

    def scale_at(self, t: Tensor) -> Tensor:
        share = (1 - (math.pi * (1 - t) ** self.power).cos()) / 2
        return 1 + (super().scale_at(t) - 1) * share

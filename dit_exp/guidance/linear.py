"""Classifier-free guidance that grows evenly as the noise goes."""

from __future__ import annotations

from torch import Tensor

from dit_exp.guidance.classifier_free import ClassifierFree


class LinearGuidance(ClassifierFree):
    """w = 1 + (scale - 1) (1 - t): 1 for pure noise and `scale` at the data.

    Source: a linear growth is among the schedules of Wang et al. 2024, arXiv:2404.13040.
    """

    def scale_at(self, t: Tensor) -> Tensor:
        return 1 + (super().scale_at(t) - 1) * (1 - t)

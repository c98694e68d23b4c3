"""Adaptive projected guidance."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from dit_exp.guidance.classifier_free import ClassifierFree


class AdaptiveProjectedGuidance(ClassifierFree):
    """x0 = labelled + (w - 1) d', where d = labelled - null loses what makes large scales oversaturate.

    momentum   d is d + momentum * (the d of the evaluation before); negative pushes away from it
    threshold  d is shortened to this norm over an image, or null
    eta        share that is kept of the part of d that is parallel to the labelled x0; 1 keeps all
    With momentum 0, no threshold and eta 1 it is classifier-free guidance.
    Source: Sadat et al. 2024, arXiv:2410.02416.
    """

    def __init__(
        self,
        null_label: int | None,
        scale: float = 4.0,
        eta: float = 0.0,
        threshold: float | None = 5.0,
        momentum: float = -0.5,
        channels: int | str | Sequence[int] = "all",
        skip: bool = True,
    ) -> None:
        super().__init__(null_label, scale, channels, skip)
        if threshold is not None and threshold <= 0:
            raise ValueError(f"guidance.threshold={threshold} must be above 0, or null for none.")
        if not -1 < momentum < 1:
            raise ValueError(f"guidance.momentum={momentum} must lie between -1 and 1.")
        self.eta, self.threshold, self.momentum = eta, threshold, momentum
        self.before: Tensor | None = None

    def begin(self) -> Self:
        fresh = copy.copy(self)
        fresh.before = None
        return fresh

    def direction(self, better: Tensor, worse: Tensor) -> Tensor:
        change = super().direction(better, worse)
        if self.before is not None:
            change = change + self.momentum * self.before
        self.before = change
        if self.threshold is not None:
            change = change * (self.threshold / norm(change).clamp(min=1e-12)).clamp(max=1)
        return change + (self.eta - 1) * projected(change, better)


def norm(x: Tensor) -> Tensor:
    """The norm of each image, (B, 1, ...)."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def projected(x: Tensor, onto: Tensor) -> Tensor:
    """The part of each image x (B, ...) that is parallel to `onto`."""
    unit = onto / norm(onto).clamp(min=1e-12)
    return (x * unit).sum(tuple(range(1, x.ndim)), keepdim=True) * unit

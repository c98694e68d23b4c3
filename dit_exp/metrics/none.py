"""No scores: a run that draws no samples to be judged."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dit_exp.types.data import DataSet


class NoMetric:
    """Asks for no samples and gives no scores."""

    num_samples = 0

    def prepare(self, data: DataSet, split: str | None = None, count: int | None = None) -> None:
        """Nothing to load."""

    def update(self, images: Tensor, start: int = 0) -> None:
        """Nothing to add to."""

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        return {}, {}

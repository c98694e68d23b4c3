"""Respacing of a discrete process as ADM writes it."""

from __future__ import annotations

import re
from typing import cast

import torch
from torch import Tensor

from dit_exp.types.diffusion import DiscreteSteps, Process


class Respaced:
    """Which of a discrete process's steps are taken.

    spacing  "250": that many, evenly rounded, first and last kept. "10,15,20": the steps are cut into as many
             equal sections, from the data on, and each gives that many. "ddim50": every k-th step from the
             first on, for the whole k that makes 50
    The network is told the original steps. Source: Nichol & Dhariwal 2021, arXiv:2102.09672, and its code's
    notation. Raises ValueError for a spacing that is none, is not sampler.steps long, or is impossible.
    """

    def __init__(self, spacing: str = "10,15,20") -> None:
        if not re.fullmatch(r"ddim[1-9]\d*|[1-9]\d*(,[1-9]\d*)*", spacing):
            raise ValueError(f"grid.spacing={spacing} must be like 250, 10,15,20 or ddim50.")
        self.spacing = spacing

    def __call__(self, process: Process, steps: int) -> Tensor:
        """Times, float64 (steps + 1,), falling to exactly 0."""
        if process.continuous:
            raise ValueError(
                "grid=respaced chooses among the steps of a discrete process, and this one is continuous. "
                "Use grid=uniform, karras or shifted."
            )
        total = len(cast(DiscreteSteps, process).alpha) - 1
        kept = self.kept(total)
        if len(kept) != steps:
            raise ValueError(
                f"grid.spacing={self.spacing} takes {len(kept)} steps and sampler.steps={steps}. Pass "
                f"sampler.steps={len(kept)}."
            )
        return torch.tensor([*(i + 1 for i in reversed(kept)), 0], dtype=torch.float64) / total

    def kept(self, total: int) -> list[int]:
        """Indices of the steps that are taken, rising, each from 0 to total - 1."""
        if self.spacing.startswith("ddim"):
            count = int(self.spacing.removeprefix("ddim"))
            for stride in range(1, total + 1):
                if len(indices := range(0, total, stride)) == count:
                    return list(indices)
            raise ValueError(f"grid.spacing={self.spacing}: no whole stride takes {count} of {total} steps.")
        counts = [int(count) for count in self.spacing.split(",")]
        start, kept = 0, []
        for i, count in enumerate(counts):
            size = total // len(counts) + (i < total % len(counts))
            if count > size:
                raise ValueError(
                    f"grid.spacing={self.spacing}: section {i + 1} has {size} steps and cannot give {count}."
                )
            stride = (size - 1) / (count - 1) if count > 1 else 0
            kept += [start + round(j * stride) for j in range(count)]
            start += size
        return kept

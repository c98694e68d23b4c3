"""Signs as probes of a trace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


class Rademacher:
    """1 or -1 with equal chance. Exact for a diagonal matrix, and of all independent entries with variance 1
    the one whose estimates vary least. Source: Hutchinson 1989.
    """

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """One probe, float32 of `shape`, on the CPU."""
        return 2.0 * torch.randint(2, tuple(shape), generator=generator) - 1

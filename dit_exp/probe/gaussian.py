"""Normal numbers as probes of a trace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


class Gaussian:
    """Standard normal entries: the estimate's variance counts the diagonal too, 2 |A|^2 for symmetric A."""

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """One probe, float32 of `shape`, on the CPU."""
        return torch.randn(tuple(shape), generator=generator)

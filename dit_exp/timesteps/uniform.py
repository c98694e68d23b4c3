"""Every image of the batch draws its own time."""

from __future__ import annotations

import torch
from torch import Tensor


class Uniform:
    """u ~ U(0, 1], independently, float32 (n,)."""

    def __call__(self, n: int, device: torch.device) -> Tensor:
        return 1 - torch.rand(n, device=device)

"""Blocks kept for the same number of evaluations each time."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.sampler.reuse.plan import Alike, Sharing


class Uniform(Sharing):
    """Runs as evenly spread as their number allows: ratio 0.5 is every second evaluation, 0.75 every fourth.

    It is the best plan where nothing is known of two evaluations but how many lie between them.
    """

    def likeness(self, total: int, alike: Alike) -> Tensor:
        place = torch.arange(total, dtype=torch.float64)
        return 1 - (place[:, None] - place).abs()

"""One draw for the whole batch, spread evenly over (0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor


class Stratified:
    """u_i = (i + u) / n with one u ~ U(0, 1], in random order, float32 (n,).

    Each u_i is still uniform, so the loss stays unbiased, and its variance over batches falls.
    Source: Kingma et al. 2021, arXiv:2107.00630, appendix I.1.
    """

    def __call__(self, n: int, device: torch.device) -> Tensor:
        order = torch.randperm(n, device=device)
        return (order + 1 - torch.rand((), device=device)) / n

"""AdamW in torch's fused form."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.optim import AdamW


def adamw(
    parameters: Iterable[Tensor],
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> AdamW:
    """Source: Loshchilov & Hutter 2017, arXiv:1711.05101."""
    return AdamW(parameters, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=True)

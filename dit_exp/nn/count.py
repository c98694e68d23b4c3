"""How large a network is and what it costs."""

from __future__ import annotations

import torch
from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Trained parameters; a fixed position table is not among them."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_gmac(model: nn.Module, input_shape: tuple[int, int, int], num_classes: int) -> float:
    """Multiply-adds of one image's forward pass, in 1e9, counted by torch's FLOP counter.

    The DiT paper calls this unit "Gflops".
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    label = torch.zeros(1, dtype=torch.long, device=device) if num_classes else None
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *input_shape, device=device), torch.zeros(1, device=device), label)
    return counter.get_total_flops() / 2e9

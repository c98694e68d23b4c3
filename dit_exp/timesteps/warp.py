"""Training times as a warp of uniform draws."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dit_exp.types.diffusion import Process, Times


class Warp(nn.Module, ABC):
    """t = times(u) with u ~ U(0, 1]; every weight is 1, as the distribution itself is what is asked for.

    stratified  spread one draw evenly over the batch: u_i = (i + u) / n in random order. Each u_i is still
                uniform, so the loss stays unbiased, and its variance over batches falls
                (Kingma et al. 2021, arXiv:2107.00630, appendix I.1)
    """

    learns = False

    def __init__(self, stratified: bool = False) -> None:
        super().__init__()
        self.stratified = stratified

    @abstractmethod
    def times(self, u: Tensor, process: Process) -> Tensor:
        """Times in (0, 1] for u in (0, 1], growing with u."""

    def forward(self, process: Process, n: int, device: torch.device) -> Times:
        u = self.places(n, device)
        return Times(u, self.times(u, process), torch.ones_like(u))

    def places(self, n: int, device: torch.device) -> Tensor:
        """Uniform draws in (0, 1], float32 (n,)."""
        if not self.stratified:
            return 1 - torch.rand(n, device=device)
        order = torch.randperm(n, device=device)
        return (order + 1 - torch.rand((), device=device)) / n

    def update(self, place: Tensor, loss: Tensor) -> None:
        """Nothing is learned from losses."""

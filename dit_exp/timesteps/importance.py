"""Times drawn more often where the loss is large, without changing the loss's mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dit_exp.types.diffusion import Process, Times


class Importance(nn.Module):
    """p(bin) ~ sqrt(mean L^2) of the bin's last losses, mixed with a uniform share; weight 1 / (bins p).

    The process's times are cut into `bins` equal parts, the steps themselves where there are as many. A
    bin remembers its last `history` losses, and until all have theirs the draw is uniform. The history is in
    the state_dict. Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.3.
    """

    learns = True

    def __init__(self, bins: int = 1000, history: int = 10, uniform: float = 0.001) -> None:
        super().__init__()
        if bins < 1 or history < 1:
            raise ValueError(f"timesteps.bins={bins} and timesteps.history={history} must be at least 1.")
        if not 0 < uniform <= 1:
            raise ValueError(
                f"timesteps.uniform={uniform} must lie in (0, 1]: without it some times are never drawn."
            )
        self.uniform = uniform
        self.losses: Tensor
        self.seen: Tensor
        self.register_buffer("losses", torch.zeros(bins, history))
        self.register_buffer("seen", torch.zeros(bins, dtype=torch.int64))

    def probabilities(self) -> Tensor:
        """The probability of each bin, float32 (bins,)."""
        bins, history = self.losses.shape
        size = self.losses.square().mean(1).sqrt()
        mixed = (1 - self.uniform) * size / size.sum() + self.uniform / bins
        known = (self.seen >= history).all() & (size.sum() > 0)
        return torch.where(known, mixed, torch.full_like(mixed, 1 / bins))

    def forward(self, process: Process, n: int, device: torch.device) -> Times:
        """Draws; `place` is the bin, int64 (n,)."""
        chances = self.probabilities()
        place = torch.multinomial(chances, n, replacement=True)
        u = (place + 1 - torch.rand(n, device=device)) / len(chances)
        return Times(place, process.times(u), 1 / (len(chances) * chances[place]))

    @torch.no_grad()
    def update(self, place: Tensor, loss: Tensor) -> None:
        """Writes losses (n,) into the histories of their bins (n,), in order, each over the oldest one."""
        history = self.losses.shape[1]
        order = place.argsort(stable=True)
        place, loss = place[order], loss[order].to(self.losses.dtype)
        count = place.bincount(minlength=len(self.seen))
        # The how-manieth of its bin each loss is; only the last `history` of a bin have room.
        nth = torch.arange(len(place), device=place.device) - (count.cumsum(0) - count)[place]
        kept = nth >= count[place] - history
        slot = (self.seen[place] + nth) % history
        self.losses[place[kept], slot[kept]] = loss[kept]
        self.seen += count

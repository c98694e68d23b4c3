"""What guidances share that go from a worse answer through a better one and beyond.

They mix predicted images. At one x_t and t these are linear in what the network predicts, be it eps, x0, v or
EDM's F, so this is the same as mixing its outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from dit_exp.guidance.moved import moved
from dit_exp.types.diffusion import Denoised, LabelDenoiser


class Extrapolation(ABC):
    """worse + w (better - worse) with w = scale_at(t): 1 is the better answer alone, 0 the worse one.

    channels  "all", how many of the first ones are guided, or which ones; published DiT scores guide the
              first 3 of 4. A learned variance stays as the better answer has it.
    skip      ask for the worse answer only where a scale is not 1. Costs a look at the scales on the host;
              false keeps the shapes of all batches the same, guided or not, as a compiled network likes
    """

    def __init__(
        self,
        scale: float = 1.5,
        channels: int | str | Sequence[int] = "all",
        skip: bool = True,
    ) -> None:
        named = isinstance(channels, str) and channels != "all"
        if named or (isinstance(channels, int) and channels < 1):
            raise ValueError(
                f"guidance.channels={channels} must be all, a number of channels from 1, or a list of them."
            )
        self.scale, self.channels, self.skip = scale, channels, skip

    def begin(self) -> Self:
        """A guidance without a memory serves all trajectories."""
        return self

    def scale_at(self, t: Tensor) -> Tensor:
        """w at each image's time, (B,): constant, unless the scale is set to a tensor (B,), one an image."""
        return torch.ones_like(t) * self.scale

    @abstractmethod
    def answers(
        self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None
    ) -> tuple[Denoised, Denoised]:
        """The better and the worse answer."""

    def __call__(self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised:
        scale = self.scale_at(t)
        if self.skip and bool((scale == 1).all()):
            return denoise(x, t, label)
        better, worse = self.answers(denoise, x, t, label)
        change = (self.per_channel(scale, x) - 1) * self.direction(better.x0, worse.x0)
        return moved(better, change, x, t, denoise.process)

    def direction(self, better: Tensor, worse: Tensor) -> Tensor:
        """Where the better x0 is moved to by w - 1, shaped like it."""
        return better - worse

    def per_channel(self, scale: Tensor, x: Tensor) -> Tensor:
        """(B,) -> (B, C or 1, 1, ...) with 1 for channels that are not guided, in x's dtype."""
        scale = scale.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        if isinstance(self.channels, str):
            return scale
        guided = range(self.channels) if isinstance(self.channels, int) else self.channels
        chosen = torch.tensor([c in guided for c in range(x.shape[1])], device=x.device)
        return torch.where(chosen.reshape(1, -1, *[1] * (x.ndim - 2)), scale, 1)

"""What all samplers share: the walk down a process's time grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from dit_exp.types import Denoised, Denoiser, DrawNoise, Process


class Walk(ABC):
    """From noise to data in `steps` steps over the process's grid, one evaluation each.

    steps  number of steps
    clip   clamp each predicted image to the pixel range; latents have no range and are left alone
    """

    needs_continuous = False

    def __init__(self, steps: int, clip: bool) -> None:
        if steps < 1:
            raise ValueError(f"sampler.steps={steps} is not possible. Choose at least 1.")
        self.steps, self.clip = steps, clip

    @property
    def evaluations(self) -> int:
        """Calls of the denoiser for one image (NFE); guidance may double the network's share."""
        return self.steps

    def trajectory(
        self, denoise: Denoiser, x: Tensor, process: Process, draw: DrawNoise
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (x at the next time, predicted x0) after each step; the last x is the sample."""
        grid = process.grid(self.steps).to(x.device)
        for now, following in pairwise(grid):
            said = denoise(x, now.expand(len(x)).to(x.dtype))
            x = self.step(x, said, now, following, process, draw)
            yield x, said.x0

    def __call__(self, denoise: Denoiser, x: Tensor, process: Process, draw: DrawNoise) -> Tensor:
        """x_T (B, C, h, w) -> x_0."""
        [(sample, _)] = deque(self.trajectory(denoise, x, process, draw), maxlen=1)
        return sample

    @abstractmethod
    def step(
        self, x: Tensor, said: Denoised, now: Tensor, following: Tensor, process: Process, draw: DrawNoise
    ) -> Tensor:
        """x at time `now` (float64 scalar) -> x at time `following`, which is 0 at the end."""

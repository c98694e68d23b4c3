"""What all samplers share: the walk down a grid of times.

A walk keeps its state inside one call of `trajectory`, never on the sampler, so two may run by turns. What is
computed of alpha and sigma is float64 in Python's own numbers; images stay in the dtype of x.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dit_exp.types.diffusion import Denoised, Denoiser, DrawNoise, Process


class Stop(NamedTuple):
    """A time of the walk, with the process's coefficients there."""

    t: float
    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """sigma / alpha: 0 at the data, infinite for pure noise."""
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha / sigma): infinite at the data, minus infinity for pure noise."""
        return -math.log(self.ratio) if self.ratio else math.inf


def stops(process: Process, times: Tensor) -> list[Stop]:
    """Times, float64 (n,), with their coefficients; one transfer from the device where tables lie there."""
    alpha, sigma = process.coefficients(times)
    return [Stop(*v) for v in zip(times.tolist(), alpha.tolist(), sigma.tolist(), strict=True)]


class Sampler(ABC):
    """From noise to data in `steps` steps.

    steps  number of steps
    clip   clamp each predicted image to the pixel range; latents have no range and are left alone
    """

    def __init__(self, steps: int, clip: bool) -> None:
        if steps < 1:
            raise ValueError(f"sampler.steps={steps} is not possible. Choose at least 1.")
        self.steps, self.clip = steps, clip

    @property
    def evaluations(self) -> int:
        """Calls of the denoiser for one image (NFE); guidance may double the network's share."""
        return self.steps

    def trajectory(
        self, denoise: Denoiser, x: Tensor, process: Process, draw: DrawNoise, times: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (x at the next time, predicted x0) after each step; the last x is the sample.

        times  float64 (steps + 1,) on the CPU, falling from where x is; without them the process's own grid
        """
        way = stops(process, process.grid(self.steps) if times is None else times)
        return self.walk(denoise, x, way, process, draw)

    def __call__(
        self, denoise: Denoiser, x: Tensor, process: Process, draw: DrawNoise, times: Tensor | None = None
    ) -> Tensor:
        """x_T (B, C, h, w) -> x_0."""
        [(sample, _)] = deque(self.trajectory(denoise, x, process, draw, times), maxlen=1)
        return sample

    @abstractmethod
    def walk(
        self, denoise: Denoiser, x: Tensor, way: list[Stop], process: Process, draw: DrawNoise
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`trajectory` over stops."""


class Walk(Sampler):
    """A sampler whose step needs one evaluation and nothing of the steps before it."""

    def walk(
        self, denoise: Denoiser, x: Tensor, way: list[Stop], process: Process, draw: DrawNoise
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for now, following in pairwise(way):
            said = denoise(x, at(now, x))
            x = self.step(x, said, now, following, draw)
            yield x, said.x0

    @abstractmethod
    def step(self, x: Tensor, said: Denoised, now: Stop, following: Stop, draw: DrawNoise) -> Tensor:
        """x at the stop `now` -> x at the stop `following`, whose sigma is 0 at the end of the walk."""


class Multistep(Sampler):
    """A sampler that remembers what earlier evaluations said, as many as `memory` with the present one."""

    memory: int

    def walk(
        self, denoise: Denoiser, x: Tensor, way: list[Stop], process: Process, draw: DrawNoise
    ) -> Iterator[tuple[Tensor, Tensor]]:
        history: deque[tuple[Stop, Denoised]] = deque(maxlen=self.memory)
        for now, following in pairwise(way):
            said = denoise(x, at(now, x))
            history.appendleft((now, said))
            x = self.advance(x, list(history), following, draw)
            yield x, said.x0

    @abstractmethod
    def advance(
        self, x: Tensor, history: list[tuple[Stop, Denoised]], following: Stop, draw: DrawNoise
    ) -> Tensor:
        """x at the stop of history[0] -> x at `following`; older evaluations stand behind it."""


def at(stop: Stop, x: Tensor) -> Tensor:
    """The stop's time for each image of x, (B,)."""
    return x.new_full((len(x),), stop.t)


def combined(shares: list[float], values: list[Tensor]) -> Tensor:
    """sum_j shares_j values_j."""
    total = shares[0] * values[0]
    for share, value in zip(shares[1:], values[1:], strict=True):
        total = total + share * value
    return total


def weights(nodes: list[float], moments: list[float]) -> list[float]:
    """Weights w of a quadrature: sum_j w_j nodes_j^k = moments_k, exact for polynomials through the nodes."""
    v = torch.tensor(nodes, dtype=torch.float64) ** torch.arange(len(nodes), dtype=torch.float64)[:, None]
    return torch.linalg.solve(v, torch.tensor(moments[: len(nodes)], dtype=torch.float64)).tolist()

"""Noise, times, losses and the way back: what objectives, samplers and guidance hand to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dit_exp.types.network import Network


class Denoised(NamedTuple):
    """What a network's output says of x_t, whatever it predicts: x0 and noise, both shaped like x_t.

    `variance` in [0, 1] (same shape) places the posterior's log variance between its lower and its
    upper bound where the network learns it, and is None elsewhere.
    """

    x0: Tensor
    noise: Tensor
    variance: Tensor | None = None


Denoiser = Callable[[Tensor, Tensor], Denoised]
"""(x_t (B, C, h, w), t (B,) in [0, 1]) -> Denoised."""

DrawNoise = Callable[[], Tensor]
"""Fresh standard normal noise shaped like x_t, each image from its own stream."""


class Process(Protocol):
    """x_t = alpha(t) x_0 + sigma(t) noise.

    `continuous` tells that every t in [0, 1] is meant; a discrete process knows only its own steps.
    `prior_scale` is sigma(1): sampling starts from prior_scale noise.
    """

    continuous: bool

    @property
    def prior_scale(self) -> float: ...

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (any shape), in t's shape."""
        ...

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt in t's shape; so dx/dt of the probability flow is
        alpha' x_0 + sigma' noise. sigma' may be infinite at t=0. In a discrete process, the slopes of a curve
        through its tables.
        """
        ...

    def velocity(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of x_0 and of noise in the v-prediction, in t's shape."""
        ...

    def input_scale(self, t: Tensor) -> Tensor:
        """What x_t is multiplied by before the network sees it, in t's shape; 1 almost everywhere."""
        ...

    def time_at(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is `ratio` in [0, inf], in its shape: 0 for 0 and at most 1. The
        nearest step in a discrete process.
        """
        ...

    def times(self, u: Tensor) -> Tensor:
        """Training times in (0, 1] for u in (0, 1], more noise for more: the own grid where there is one."""
        ...

    def grid(self, steps: int) -> Tensor:
        """Sampling times, float64 (steps + 1,), from noise down to exactly 0."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told for t: the step's index in a discrete process."""
        ...


class DiscreteSteps(Process, Protocol):
    """A process of T steps with alpha and sigma as tables of T + 1 entries, the first for the data itself."""

    alpha: Tensor
    sigma: Tensor

    def index(self, t: Tensor) -> Tensor:
        """t in [0, 1] -> the number of steps taken, int64 0 to T."""
        ...


class Times(NamedTuple):
    """A draw of training times.

    place   (n,), what `Timesteps.update` knows each draw by
    t       float32 (n,) in (0, 1]
    weight  float32 (n,), what the loss at t is multiplied by; its mean is 1
    """

    place: Tensor
    t: Tensor
    weight: Tensor


class Timesteps(Protocol):
    """Which times a network is trained at. `learns` tells that the draws follow the losses."""

    learns: bool

    def __call__(self, process: Process, n: int, device: torch.device) -> Times: ...

    def update(self, place: Tensor, loss: Tensor) -> None:
        """Losses (n,) of earlier draws, before they were multiplied by the draws' weights. Every rank must
        pass the same ones in the same order, so that all go on drawing from one distribution.
        """
        ...


class Weighting(Protocol):
    """What the loss at a time counts."""

    def __call__(self, error: Tensor, alpha: Tensor, sigma: Tensor, image_error: Tensor) -> Tensor:
        """Losses (B,) from the squared errors (B,) of a prediction.

        image_error  (B,), the squared error of x_0 that an error of 1 in the prediction makes
        """
        ...


class LabelDenoiser(Protocol):
    """A network as a denoiser for any labels: (x_t (B, C, h, w), t (B,), label (B,) or None) -> Denoised.

    Where the network names classes instead (`classifies`), only `network` may be called, for the logits.
    """

    process: Process
    network: Network
    classifies: bool

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised: ...


class Guidance(Protocol):
    """(denoise, x_t, t, label) -> the Denoised that the sampler sees."""

    def begin(self) -> Guidance:
        """The guidance of one trajectory: itself, or where it has a memory one with an empty one."""
        ...

    def __call__(self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised: ...

"""Coordinates in which the probability-flow ODE is a straight line wherever the denoiser does not change.

y = x / (alpha + bend sigma) over tau = sigma / (alpha + bend sigma), so y = (1 - bend tau) x0 + tau noise and
dy/dtau = noise - bend x0. Where alpha stays the same, bend=0 makes tau EDM's sigma. Elsewhere bend=1 maps
every process onto the straight path of flow matching: tau is in [0, 1] and nothing is infinite at pure noise.
"""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.walk import Stop
from dit_exp.types.diffusion import Denoised


class Path:
    """The coordinates for the step from one stop to another; bend=None chooses as said above."""

    def __init__(self, now: Stop, following: Stop, bend: float | None = None) -> None:
        self.bend = float(now.alpha != following.alpha) if bend is None else bend
        self.now, self.following = now, following
        self.length = self.tau(following) - self.tau(now)

    def scale(self, stop: Stop) -> float:
        """x / y."""
        return stop.alpha + self.bend * stop.sigma

    def tau(self, stop: Stop) -> float:
        return stop.sigma / self.scale(stop)

    def velocity(self, said: Denoised) -> Tensor:
        """dy/dtau, shaped like x."""
        return said.noise - said.x0 if self.bend else said.noise

    def move(self, x: Tensor, velocity: Tensor) -> Tensor:
        """x at `now` -> x at `following`, with one velocity all the way."""
        scale = self.scale(self.following)
        return scale / self.scale(self.now) * x + scale * self.length * velocity

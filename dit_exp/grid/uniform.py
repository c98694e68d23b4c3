"""The process's own grid."""

from __future__ import annotations

from torch import Tensor

from dit_exp.types.diffusion import Process


class Uniform:
    """Even steps in the process's time; in process=edm these are even in sigma^(1 / rho)."""

    def __call__(self, process: Process, steps: int) -> Tensor:
        """Times, float64 (steps + 1,), falling to exactly 0."""
        return process.grid(steps)

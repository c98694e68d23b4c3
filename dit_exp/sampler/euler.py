"""Euler's method for the probability-flow ODE."""

from __future__ import annotations

from dit_exp.sampler.adams import Adams


class Euler(Adams):
    """y_s = y_t + (tau_s - tau_t) dy/dtau, in path.py's coordinates.

    On the straight path that is x_s = x_t + (s - t) (noise - x0), where alpha stays 1 it is EDM's step in
    sigma, and in every process it is DDIM with eta=0.
    """

    def __init__(self, steps: int = 50, clip: bool = False) -> None:
        super().__init__(steps, 1, clip)

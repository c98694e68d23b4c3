"""The rate at which the stochastic differential equations of Song et al. add noise."""

from __future__ import annotations

from torch import Tensor

from dit_exp.process.continuous import ContinuousProcess


class LinearRate(ContinuousProcess):
    """beta(t) = beta_min + t (beta_max - beta_min), and B(t), its integral from 0 to t."""

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, time_scale: float = 1000.0) -> None:
        super().__init__(time_scale)
        if not 0 < beta_min < beta_max:
            raise ValueError(
                f"process.beta_min={beta_min} and process.beta_max={beta_max} must be above 0, and the "
                "second the larger one."
            )
        self.low, self.span = beta_min, beta_max - beta_min

    def beta(self, t: Tensor) -> Tensor:
        return self.low + t * self.span

    def integral(self, t: Tensor) -> Tensor:
        """B(t)."""
        return self.low * t + self.span * t**2 / 2

    def time_of(self, integral: Tensor) -> Tensor:
        """The t in [0, 1] at which B(t) is `integral`; 1 for anything beyond."""
        integral = integral.clamp(max=self.low + self.span / 2)
        return 2 * integral / (self.low + (self.low**2 + 2 * self.span * integral).sqrt())

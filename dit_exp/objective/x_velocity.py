"""Prediction of the clean image, trained and sampled as a velocity."""

from __future__ import annotations

from torch import Tensor

from dit_exp.objective.prediction import per_image
from dit_exp.objective.v import VelocityPrediction
from dit_exp.types.diffusion import Denoised, Process, Timesteps, Weighting


class ImageAsVelocity(VelocityPrediction):
    """The network says x0; the loss is that of the velocity it implies.

    From x_t = alpha x0 + sigma noise, v = a x0 + b noise = (b x_t + (a sigma - b alpha) x0) / sigma, which on
    the straight path is (x_t - x0) / t. Its sigma is read as `floor` where it is smaller, in the loss as in
    `denoised`: there x0 is a mix of the network's and of x_t, and the last steps of a sampler shrink.
    Source: Li & He 2025, arXiv:2511.13720 (JiT).
    """

    name = "x_velocity"

    def __init__(
        self,
        process: Process,
        timesteps: Timesteps,
        weighting: Weighting | None = None,
        floor: float = 0.05,
    ) -> None:
        super().__init__(process, timesteps, weighting)
        if not 0 < floor < 1:
            raise ValueError(f"objective.floor={floor} must lie between 0 and 1.")
        self.floor = floor

    def slope(self, t: Tensor) -> Tensor:
        """d v / d x0 at a fixed x_t, in t's shape."""
        alpha, sigma = self.process.coefficients(t)
        a, b = self.weights(t)
        return (a * sigma - b * alpha) / sigma.clamp(min=self.floor)

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return x0

    def denoised(self, out: Tensor, x_t: Tensor, t: Tensor) -> Denoised:
        _, sigma = self.process.coefficients(t)
        _, b = self.weights(t)
        of_x_t = per_image(b / sigma.clamp(min=self.floor), x_t)
        return super().denoised(of_x_t * x_t + per_image(self.slope(t), x_t) * out.to(x_t.dtype), x_t, t)

    def distance(self, out: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self.slope(t) ** 2 * super().distance(out, x0, noise, t)

    def image_error(self, t: Tensor) -> Tensor:
        return 1 / self.slope(t) ** 2

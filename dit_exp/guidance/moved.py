"""Another predicted image for the same x_t."""

from __future__ import annotations

from torch import Tensor

from dit_exp.objective.prediction import per_image
from dit_exp.types.diffusion import Denoised, Process


def moved(said: Denoised, change: Tensor, x: Tensor, t: Tensor, process: Process) -> Denoised:
    """The pair with x0 + change, shaped like x (B, C, h, w), and the noise that still adds up to x."""
    alpha, sigma = process.coefficients(t)
    return said._replace(x0=said.x0 + change, noise=said.noise - per_image(alpha / sigma, x) * change)

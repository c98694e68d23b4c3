"""How near a reconstruction is to its image, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor

BEST = 100.0
"""The PSNR in dB of two images that are the same, whose own is infinite."""

WINDOW, SIGMA = 11, 1.5


def psnr(image: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, float64 (B,), of uint8 images (B, C, H, W); 100 at most."""
    error = (image.double() - other.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / error)).clamp(max=BEST)


def ssim(image: Tensor, other: Tensor) -> Tensor:
    """Structural similarity, float64 (B,), of uint8 images (B, C, H, W) of 11 pixels or more a side.

    A Gaussian window of 11 pixels, sigma 1.5, where it fits into the image; mean over places and channels.
    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    x, y = image.double(), other.double()
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x.square()
    variance_y = _blurred(y * y) - mean_y.square()
    covariance = _blurred(x * y) - mean_x * mean_y
    brightness = (2 * mean_x * mean_y + first) / (mean_x.square() + mean_y.square() + first)
    structure = (2 * covariance + second) / (variance_x + variance_y + second)
    return (brightness * structure).flatten(1).mean(1)


def _blurred(x: Tensor) -> Tensor:
    """The Gaussian mean around each place of x (B, C, H, W), without padding."""
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-offset.square() / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, WINDOW)
    rows = torch.nn.functional.conv2d(x, weights[:, :, :, None], groups=x.shape[1])
    return torch.nn.functional.conv2d(rows, weights[:, :, None], groups=x.shape[1])

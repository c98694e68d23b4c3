"""PSNR and SSIM by their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dit_exp.metrics.pixels import psnr, ssim


def noise(seed: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 24, 20), generator=torch.Generator().manual_seed(seed)).to(
        torch.uint8
    )


def test_psnr_of_a_known_error():
    image = torch.full((3, 3, 8, 8), 100, dtype=torch.uint8)
    other = image.clone()
    other[0] += 5
    other[1, :, :4] += 10
    expected = [10 * math.log10(255**2 / 25), 10 * math.log10(255**2 / 50), 100.0]
    assert psnr(image, other).tolist() == pytest.approx(expected, abs=1e-12)


def test_ssim_of_flat_images_is_that_of_their_brightness():
    image = torch.full((1, 3, 16, 16), 60, dtype=torch.uint8)
    other = torch.full((1, 3, 16, 16), 120, dtype=torch.uint8)
    constant = (0.01 * 255) ** 2
    expected = (2 * 60 * 120 + constant) / (60**2 + 120**2 + constant)
    assert ssim(image, other).tolist() == pytest.approx([expected], abs=1e-9)


def test_ssim_is_1_for_an_image_itself_and_the_definition_s_elsewhere():
    image, other = noise(0), noise(1)
    assert ssim(image, image).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)

    def blurred(x: np.ndarray) -> np.ndarray:
        # 11 pixels wide at sigma 1.5, of which only places whose window fits are kept
        return gaussian_filter(x, 1.5, truncate=3.4)[5:-5, 5:-5]

    values = []
    for a, b in zip(image[0].numpy().astype(float), other[0].numpy().astype(float), strict=True):
        ma, mb = blurred(a), blurred(b)
        va, vb, ab = blurred(a * a) - ma**2, blurred(b * b) - mb**2, blurred(a * b) - ma * mb
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append(np.mean((2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))))
    assert float(ssim(image, other)[0]) == pytest.approx(float(np.mean(values)), abs=1e-9)

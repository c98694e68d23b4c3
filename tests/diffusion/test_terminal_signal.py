"""What the last state's remaining signal does to samples that start without it, and how rescaling ends it."""

from __future__ import annotations

import pytest
import torch
from oracle import Gaussian, denoiser

from dit_exp.process.linear import Linear
from dit_exp.process.quadratic import Quadratic
from dit_exp.sampler.ddim import DDIM


def brightness(process) -> float:
    """The mean of samples of N(0.8, 0.5^2); an ODE sampler is affine here and maps the mean to the mean."""
    start = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    oracle = Gaussian(process, mean=0.8, std=0.5)
    return float(DDIM(steps=1000, clip=False)(denoiser(oracle), start, process, draw=None))


@pytest.mark.parametrize("process", [Linear(), Quadratic()])
def test_the_mean_is_short_of_the_signal_that_the_start_lacks(process):
    alpha, sigma = float(process.alpha[-1]), float(process.sigma[-1])
    lost = 0.5 / (0.25 * alpha**2 + sigma**2) ** 0.5 * alpha * 0.8
    assert 0.8 - brightness(process) == pytest.approx(lost, abs=1e-4)
    assert lost > 0.002


@pytest.mark.parametrize("make", [Linear, Quadratic])
def test_zero_terminal_snr_gives_the_mean_back(make):
    assert brightness(make(zero_terminal_snr=True)) == pytest.approx(0.8, abs=1e-9)

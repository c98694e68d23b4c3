"""Guidance that depends on time."""

from __future__ import annotations

import math

import pytest
import torch
from echo import LABEL, NULL, Echo, X
from oracle import Gaussian, denoiser

from dit_exp.guidance.interval import IntervalGuidance
from dit_exp.guidance.linear import LinearGuidance
from dit_exp.guidance.power_cosine import PowerCosineGuidance
from dit_exp.process.flow import Flow
from dit_exp.sampler.heun import Heun


def scale(guidance, t: float) -> float:
    return float(guidance.scale_at(torch.tensor([t], dtype=torch.float64)))


@pytest.mark.parametrize(("t", "images"), [(0.29, 2), (0.3, 4), (0.7, 4), (0.71, 2)])
def test_outside_the_interval_the_null_pass_is_not_computed(t: float, images: int):
    denoise, at = Echo(), torch.full((2,), t, dtype=torch.float64)
    said = IntervalGuidance(NULL, scale=2.0, interval=(0.3, 0.7))(denoise, X, at, LABEL)
    assert denoise.images == images
    assert float(said.x0[0, 0, 0, 0]) == (-6 if images == 4 else 2)


def test_times_within_a_batch_are_gated_one_by_one():
    said = IntervalGuidance(NULL, 2.0, (0.3, 0.7))(Echo(), X, torch.tensor([0.5, 0.9]), LABEL)
    assert said.x0[:, 0, 0, 0].tolist() == [-6, 5]


def test_heun_s_second_evaluation_is_gated_by_its_own_time():
    guidance, process, asked = IntervalGuidance(NULL, 2.0, (0.3, 0.7)), Flow(), {}
    exact = denoiser(Gaussian(process))

    def denoise(x, t):
        spy = Echo()
        guidance(spy, X, t[:1].expand(2), LABEL)
        asked.setdefault(round(float(t[0]), 3), []).append(spy.images)
        return exact(x, t)

    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    Heun(4)(denoise, x, process, None, torch.tensor([1.0, 0.8, 0.6, 0.2, 0.0], dtype=torch.float64))
    # 0.6 is met as the end of the step from 0.8 and as the start of its own, 0.2 likewise.
    assert asked == {1.0: [2], 0.8: [2, 2], 0.6: [4, 4], 0.2: [2, 2]}


def test_linear_grows_from_1_at_the_noise_to_the_scale_at_the_data():
    guidance = LinearGuidance(NULL, scale=3.0)
    assert [scale(guidance, t) for t in (1.0, 0.75, 0.5, 0.0)] == [1.0, 1.5, 2.0, 3.0]


def test_power_cosine_is_diffit_s():
    guidance = PowerCosineGuidance(NULL, scale=4.6)
    assert scale(guidance, 1.0) == pytest.approx(1)
    assert scale(guidance, 0.0) == pytest.approx(4.6)
    for t in (0.1, 0.5, 0.8):
        assert scale(guidance, t) == pytest.approx(1 + 3.6 * 0.5 * (1 - math.cos(math.pi * (1 - t) ** 4)))
    assert scale(guidance, 0.5) < 1.04  # at 0.5^4 of the cosine it has hardly begun


def test_at_pure_noise_a_growing_schedule_costs_one_pass():
    for guidance in (LinearGuidance(NULL, 3.0), PowerCosineGuidance(NULL, 3.0)):
        denoise = Echo()
        guidance(denoise, X, torch.ones(2), LABEL)
        assert denoise.images == 2


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"guidance.interval=\[0.7, 0.3\] must be \[low, high\]"):
        IntervalGuidance(NULL, interval=(0.7, 0.3))
    with pytest.raises(ValueError, match=r"guidance.power=0 must be above 0"):
        PowerCosineGuidance(NULL, power=0)

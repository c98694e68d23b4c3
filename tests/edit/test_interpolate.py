"""Between two seeds, and between two pictures by way of their noise."""

from __future__ import annotations

import math

import pytest
import torch
from editing import picture, studio
from oracle import Gaussian, denoiser

from dit_exp.edit.interpolate import Interpolate, between
from dit_exp.edit.interpolate_images import InterpolateImages
from dit_exp.errors import UserError
from dit_exp.process.flow import Flow
from dit_exp.process.vp import VP
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.ddpm import DDPM


def noise(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_way_begins_and_ends_at_its_ends_and_turns_by_equal_angles():
    a, b = noise(0), noise(1, scale=1.5)
    points = between(a, b, 7)
    torch.testing.assert_close(points[:1], a)
    torch.testing.assert_close(points[-1:], b)
    flat = points.flatten(1)
    units = flat / flat.norm(dim=1, keepdim=True)
    angles = (units[1:] * units[:-1]).sum(1).acos()
    torch.testing.assert_close(angles, angles[:1].expand(6))
    whole = math.acos(float((a * b).sum() / (a.norm() * b.norm())))
    assert float(angles.sum()) == pytest.approx(whole)


def test_the_length_is_kept_between_equal_ones_and_changes_evenly_else():
    a, b = noise(0), noise(1)
    points = between(a, b * (a.norm() / b.norm()), 5)
    torch.testing.assert_close(points.flatten(1).norm(dim=1), a.norm().expand(5))
    lengths = between(a, 3 * b, 5).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(float(a.norm()), float(3 * b.norm()), 5).double())


def test_one_direction_is_a_straight_line():
    a = noise(0)
    torch.testing.assert_close(between(a, 2 * a, 3)[1:2], 1.5 * a)


@pytest.mark.parametrize("sampler", [DDIM(steps=6), DDPM(steps=6)])
def test_the_strip_begins_with_the_sample_of_the_first_seed(sampler):
    process = Flow()
    ours = studio(process, denoiser(Gaussian(process)), sampler)
    strip = Interpolate(first=3, last=5, count=4)(ours)
    draw = ours.noise([3])
    assert torch.equal(strip[:1], ours.decode(ours.sample(process.prior_scale * draw(), draw)))


def test_without_fresh_noise_it_ends_with_the_sample_of_the_last_seed():
    process = VP()
    ours = studio(process, denoiser(Gaussian(process)), DDIM(steps=6))
    strip = Interpolate(first=3, last=5, count=4)(ours)
    draw = ours.noise([5])
    last = ours.decode(ours.sample(process.prior_scale * draw(), draw))
    assert (strip[-1:].int() - last.int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in strip}) == 4


def test_inversion_gives_both_pictures_back_at_the_ends():
    process = Flow()
    ours = studio(process, denoiser(Gaussian(process)), DDIM(steps=50, clip=False))
    one, other = picture(0), picture(1)
    strip = InterpolateImages("", "", iterations=10, count=5)(ours, one, other)
    assert (strip[:1].int() - one.int()).abs().max() <= 1
    assert (strip[-1:].int() - other.int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in strip}) == 5


@pytest.mark.parametrize("sampler", [DDIM(steps=5, eta=0.5), DDPM(steps=5)])
def test_a_sampler_that_cannot_run_backwards_is_refused(sampler):
    process = Flow()
    ours = studio(process, denoiser(Gaussian(process)), sampler)
    with pytest.raises(UserError, match=r"runs DDIM backwards. Pass sampler=ddim sampler.eta=0"):
        InterpolateImages("a.png", "b.png").prepare(ours)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"edit.count=1 must be at least 2"):
        Interpolate(count=1)
    with pytest.raises(ValueError, match=r"edit.last=-1 must be at least 0"):
        Interpolate(last=-1)
    with pytest.raises(ValueError, match=r"edit.iterations=0 must be at least 1"):
        InterpolateImages("", "", iterations=0)

"""RePaint: known pixels stay as they are, and a hole follows the exact conditional distribution."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from editing import picture, studio
from oracle import Correlated, Gaussian, denoiser

from dit_exp.edit.inpaint import Inpaint, boxed, noised
from dit_exp.edit.studio import Studio
from dit_exp.errors import UserError
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.vp import VP
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.ddpm import DDPM
from dit_exp.sampler.dpmpp_2m import DPMSolver2M
from dit_exp.sampler.walk import stops

MEAN = torch.tensor([0.2, -0.1])
COVARIANCE = torch.tensor([[0.25, 0.20], [0.20, 0.25]])
KNOWN = torch.tensor([0.7, 0.0]).reshape(1, 1, 1, 2)
HOLE = torch.tensor([False, True]).reshape(1, 1, 1, 2)
# N(mean, variance) of the second pixel given that the first is 0.7.
CONDITIONAL_MEAN = -0.1 + 0.20 / 0.25 * (0.7 - 0.2)
CONDITIONAL_STD = math.sqrt(0.25 - 0.20**2 / 0.25)


class Quiet(Studio):
    """Every noise is 0. On Gaussian data all steps are affine, so what comes out is the exact mean."""

    def noise(self, indices):
        return lambda: torch.zeros(len(indices), *self.latent_shape)


def two_pixels(process, steps: int) -> Studio:
    oracle = denoiser(Correlated(process, MEAN, COVARIANCE))
    return studio(process, oracle, DDPM(steps=steps, clip=False), (1, 1, 2))


def mean_of(process, steps: int, jump_length: int, jumps: int) -> float:
    ours = two_pixels(process, steps)
    quiet = Quiet(**{field.name: getattr(ours, field.name) for field in dataclasses.fields(ours)})
    return float(Inpaint("", "", jump_length, jumps, count=1).fill(quiet, KNOWN, HOLE)[0, 0, 0, 1])


@pytest.mark.parametrize("process", [Flow(), VP()], ids=lambda p: type(p).__name__)
def test_jumps_bring_the_mean_to_the_exact_conditional_one(process):
    errors = [
        abs(mean_of(process, steps, length, jumps) - CONDITIONAL_MEAN)
        for steps, length, jumps in ((100, 10, 0), (100, 5, 9), (200, 2, 19))
    ]
    assert errors[0] > 0.1  # what is put in without jumps comes too late for the hole
    assert errors[1] < 0.03
    assert errors[2] < 0.01


def test_samples_have_the_conditional_mean_and_deviation():
    count = 400
    filled = Inpaint("", "", 5, 9, count).fill(two_pixels(Flow(), 50), KNOWN, HOLE)
    assert torch.equal(filled[..., 0], KNOWN[..., 0].expand(count, 1, 1))
    error = CONDITIONAL_STD / math.sqrt(count)
    bias = mean_of(Flow(), 50, 5, 9) - CONDITIONAL_MEAN
    assert float(filled[..., 1].mean()) == pytest.approx(CONDITIONAL_MEAN + bias, abs=3 * error)
    assert float(filled[..., 1].std()) == pytest.approx(CONDITIONAL_STD, rel=0.11)  # 3 errors of 400 draws


def test_a_jump_back_has_the_marginals_of_the_noisier_time():
    process = Linear()
    now, noisier = stops(process, torch.tensor([0.2, 0.5], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    n = 40_000
    x0 = torch.full((n,), 0.8)
    x = now.alpha * x0 + now.sigma * torch.randn(n, generator=generator)
    x = noised(x, now, noisier, lambda: torch.randn(n, generator=generator))
    assert float(x.mean()) == pytest.approx(0.8 * noisier.alpha, abs=0.015)
    assert float(x.std()) == pytest.approx(noisier.sigma, rel=0.015)


class Counting:
    def __init__(self, denoise):
        self.denoise, self.calls = denoise, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.denoise(x, t)


@pytest.mark.parametrize(("jump_length", "jumps"), [(3, 0), (3, 2), (10, 4), (1, 1)])
def test_known_pixels_are_the_picture_s_and_evaluations_are_as_stated(jump_length, jumps):
    process = Flow()
    denoise = Counting(denoiser(Gaussian(process)))
    ours = studio(process, denoise, DDIM(steps=7))
    given, mask = picture(), boxed((1, 0, 3, 2), 4)
    edited = Inpaint("", "", jump_length, jumps, count=3)(ours, given, mask)
    hole = mask[0, 0] > 0
    assert edited.shape == (3, 3, 4, 4)
    assert torch.equal(edited[..., ~hole], given.expand(3, -1, -1, -1)[..., ~hole])
    assert not torch.equal(edited[0][..., hole], edited[1][..., hole])
    assert denoise.calls == 7 * (jumps + 1)


class Halving:
    """Latents of half the height and width, which lose detail."""

    bounds = None

    def encode(self, image):
        return torch.nn.functional.avg_pool2d(image, 2)

    def decode(self, latent):
        return latent.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_through_a_lossy_autoencoder_known_pixels_stay_exact():
    process = Flow()
    ours = studio(process, denoiser(Gaussian(process)), DDPM(steps=5, clip=False))
    ours = dataclasses.replace(ours, autoencoder=Halving(), latent_shape=(3, 2, 2))
    given, mask = picture(), boxed((1, 1, 2, 2), 4)
    edited = Inpaint("", "", 2, 1, count=2)(ours, given, mask)
    assert torch.equal(edited[:, :, mask[0, 0] == 0], given.expand(2, -1, -1, -1)[:, :, mask[0, 0] == 0])
    assert not torch.equal(edited[0, :, 1, 1], edited[1, :, 1, 1])  # one pixel opens its whole latent


@pytest.mark.parametrize("box", [(2, 0, 2, 4), (0, 0, 5, 4), (-1, 0, 2, 2), (3, 0, 1, 2)])
def test_boxes_that_are_none_or_reach_outside_are_refused(box):
    with pytest.raises(UserError, match=r"must be \[left, top, right, bottom\] inside the 4x4 pixels"):
        boxed(box, 4)


def test_a_sampler_with_a_memory_is_refused():
    process = Flow()
    ours = studio(process, denoiser(Gaussian(process)), DPMSolver2M(steps=5))
    with pytest.raises(UserError, match=r"walks back and forth.*Pass sampler=ddpm"):
        Inpaint("", (0, 0, 1, 1)).prepare(ours)


@pytest.mark.parametrize("given", [{"jump_length": 0}, {"jumps": -1}, {"count": 0}])
def test_numbers_that_are_none_are_refused(given):
    with pytest.raises(ValueError, match=rf"edit.{next(iter(given))}=.* must be at least"):
        Inpaint("", "", **given)

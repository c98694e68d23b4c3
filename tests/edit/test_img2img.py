"""SDEdit's two ends: the picture itself, and a sample that knows nothing of it."""

from __future__ import annotations

import pytest
import torch
from editing import picture, studio
from oracle import Gaussian, denoiser

from dit_exp.edit.img2img import ImageToImage
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.ddpm import DDPM
from dit_exp.sampler.heun import Heun

PROCESSES = [Flow(), EDM(), Linear()]


def edited(process, strength: float, given: torch.Tensor, sampler=None) -> torch.Tensor:
    ours = studio(process, denoiser(Gaussian(process)), sampler or DDPM(steps=10))
    return ImageToImage("", strength, count=3)(ours, given)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_strength_0_returns_the_picture_and_1_forgets_it(process):
    given = picture(0)
    assert torch.equal(edited(process, 0, given), given.expand(3, -1, -1, -1))
    assert torch.equal(edited(process, 1, given), edited(process, 1, picture(1)))
    assert not torch.equal(edited(process, 0.5, given), edited(process, 0.5, picture(1)))


def test_strength_1_is_what_sampling_draws():
    process = Linear()
    ours = studio(process, denoiser(Gaussian(process)), DDPM(steps=10))
    draw = ours.noise(range(3))
    drawn = ours.decode(ours.sample(process.prior_scale * draw(), draw))
    assert torch.equal(edited(process, 1, picture()), drawn)


@pytest.mark.parametrize("sampler", [DDIM(steps=10), Heun(steps=10)])
def test_more_strength_goes_further_from_the_picture(sampler):
    given = picture().expand(3, -1, -1, -1).float()
    away = [float((edited(Flow(), s, picture(), sampler) - given).abs().mean()) for s in (0, 0.2, 0.5, 0.9)]
    assert away[0] == 0
    assert away == sorted(away)


def test_the_noise_is_that_of_the_time_strength_on_an_even_grid():
    seen = []

    def denoise(x, t):
        seen.append(float(t[0]))
        return denoiser(Gaussian(Flow()))(x, t)

    ImageToImage("", 0.6, count=1)(studio(Flow(), denoise, DDIM(steps=10)), picture())
    assert seen == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("strength", [-0.1, 1.01])
def test_a_strength_outside_0_to_1_is_refused(strength):
    with pytest.raises(ValueError, match=rf"edit.strength={strength} must lie in \[0, 1\]"):
        ImageToImage("", strength)

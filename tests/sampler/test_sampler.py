"""Every sampler against the exact answer on Gaussian data, and against each other.

For x0 ~ N(m, s^2) the best denoiser is linear in x_t, and the sampler's output is Gaussian with a mean and
a deviation that can be followed exactly: one run on 0 and one on 1 measure the affine map of an ODE sampler.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from composing import composed
from hydra.utils import instantiate

from dit_exp.process.cosine import Cosine
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.quadratic import Quadratic
from dit_exp.process.vp import VP
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.ddpm import DDPM
from dit_exp.sampler.denoise import Denoise
from dit_exp.sampler.euler import Euler
from dit_exp.sampler.walk import stops
from dit_exp.types.diffusion import Denoised

MEAN, STD = 0.3, 0.5


def exact(process):
    """The posterior mean of x0 for x0 ~ N(MEAN, STD^2), as a denoiser."""

    def denoise(x, t):
        alpha, sigma = (v[0].double() for v in process.coefficients(t.double()))
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        x0 = MEAN + gain * (x - alpha * MEAN)
        return Denoised(x0, (x - alpha * x0) / sigma)

    return denoise


def affine(sampler, process) -> tuple[float, float]:
    """Mean and deviation of what a deterministic sampler makes of N(0, 1)."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    low, high = sampler(exact(process), ends, process, draw=None).flatten().tolist()
    return low, high - low


@pytest.mark.parametrize("process", [Linear(), Cosine(), Flow()])
def test_ddim_reaches_the_exact_gaussian(process):
    mean, std = affine(DDIM(steps=1000, clip=False), process)
    assert mean == pytest.approx(MEAN, abs=4e-3)
    assert std == pytest.approx(STD, abs=4e-3)


def test_euler_reaches_the_exact_gaussian():
    mean, std = affine(Euler(steps=1000), Flow())
    assert mean == pytest.approx(MEAN, abs=1e-9)  # the straight path's mean is followed without error
    assert std == pytest.approx(STD, abs=2e-3)


@pytest.mark.parametrize(("sampler", "process"), [(Euler, Flow()), (DDIM, Flow())])
def test_the_error_of_a_first_order_sampler_halves_with_its_step(sampler, process):
    errors = [abs(affine(sampler(steps=n, clip=False), process)[1] - STD) for n in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_ddim_on_the_straight_path_is_euler():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 1, 2, 2, generator=g, dtype=torch.float64)
    flow = Flow()
    ours = DDIM(steps=17, clip=False)(exact(flow), x, flow, draw=None)
    torch.testing.assert_close(ours, Euler(steps=17)(exact(flow), x, flow, draw=None), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (DDPM(steps=1000, clip=False), Linear()),
        (DDPM(steps=1000, variance="large", clip=False), Linear()),
        (DDPM(steps=1000, clip=False), Cosine()),
        (DDPM(steps=1000, clip=False), Flow()),
        (DDIM(steps=1000, eta=1.0, clip=False), Linear()),
        (DDIM(steps=1000, eta=0.5, clip=False), Cosine()),
    ],
)
def test_ancestral_samplers_reach_the_exact_gaussian(sampler, process):
    g = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(1, 1, 100, 100, generator=g, dtype=torch.float64)

    sample = sampler(exact(process), draw(), process, draw)
    assert float(sample.mean()) == pytest.approx(MEAN, abs=0.015)  # 3 standard errors of 10,000 draws
    assert float(sample.std()) == pytest.approx(STD, abs=0.012)


def test_the_last_signal_of_the_quadratic_schedule_shifts_the_mean_as_computed():
    # Started from N(0, 1) instead of N(alpha m, ...), DDIM keeps the start's missing mean.
    process = Quadratic()
    mean, std = affine(DDIM(steps=1000, clip=False), process)
    alpha, sigma = float(process.alpha[-1]), float(process.sigma[-1])
    start = (alpha**2 * STD**2 + sigma**2) ** 0.5
    assert mean == pytest.approx(MEAN - std / 1 * alpha * MEAN, abs=2e-3)
    assert std == pytest.approx(STD / start, abs=4e-3)


def test_ddim_with_eta_1_is_ddpm():
    process = Linear()
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def stream():
        g = torch.Generator().manual_seed(1)
        return lambda: torch.randn(3, 1, 2, 2, generator=g, dtype=torch.float64)

    a = DDIM(steps=20, eta=1.0, clip=False)(exact(process), x, process, stream())
    b = DDPM(steps=20, clip=False)(exact(process), x, process, stream())
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_ddpm_equals_diffusers_step_by_step():
    from diffusers import DDPMScheduler

    process, denoise = Linear(), exact(Linear())
    peer = DDPMScheduler(clip_sample=False, variance_type="fixed_small")
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws, peers = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)

    def draw():
        return torch.randn(x.shape, generator=draws, dtype=torch.float64)

    y = x
    walk = DDPM(steps=1000, clip=False).trajectory(denoise, x, process, draw)
    for index in range(999, 949, -1):
        ours, _ = next(walk)
        noise = denoise(y, torch.tensor([(index + 1) / 1000], dtype=torch.float64)).noise
        y = peer.step(noise, index, y, generator=peers).prev_sample
        torch.testing.assert_close(ours, y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sampler", [DDPM(steps=10), DDIM(steps=10, eta=1.0)])
def test_the_last_step_adds_no_noise(sampler):
    process, draws = Linear(), []

    def draw():
        draws.append(1)
        return torch.zeros(2, 1, 1, 1, dtype=torch.float64)

    sampler(exact(process), torch.ones(2, 1, 1, 1, dtype=torch.float64), process, draw)
    assert len(draws) == 9


@pytest.mark.parametrize("sampler", [DDPM(steps=7), DDIM(steps=7), Euler(steps=7)])
def test_the_stated_number_of_evaluations_is_the_counted_one(sampler):
    process, calls = Flow(), []

    def denoise(x, t):
        calls.append(float(t[0]))
        return exact(process)(x, t)

    sampler(denoise, torch.ones(1, 1, 1, 1).double(), process, lambda: torch.zeros(1, 1, 1, 1).double())
    assert len(calls) == sampler.evaluations == 7
    assert calls == sorted(calls, reverse=True)


def test_a_learned_variance_stands_between_the_small_and_the_large_one():
    process = Linear()
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def first(variance, sampler):
        def denoise(x, t):
            said = exact(process)(x, t)
            return said if variance is None else said._replace(variance=torch.full_like(x, variance))

        return float(next(sampler.trajectory(denoise, x, process, lambda: torch.ones_like(x)))[0])

    small, large = DDPM(steps=5, clip=False), DDPM(steps=5, variance="large", clip=False)
    assert first(0.0, small) == pytest.approx(first(None, small), rel=1e-9)
    assert first(1.0, small) == pytest.approx(first(None, large), rel=1e-9)
    assert first(None, small) < first(0.5, small) < first(None, large)


def test_clipping_keeps_the_image_in_range_and_the_pair_consistent():
    from dit_exp.guidance.none import NoGuidance
    from dit_exp.objective.eps import NoisePrediction
    from dit_exp.timesteps.uniform import Uniform

    objective = NoisePrediction(Linear(), Uniform())
    clipped = Denoise(lambda x, t, y: torch.zeros_like(x), objective, NoGuidance(), None, (-1.0, 1.0))
    x, t = torch.full((1, 1, 1, 1), 0.9), torch.tensor([0.9])
    said = clipped(x, t)
    alpha, sigma = Linear().coefficients(t)
    assert said.x0.item() == 1
    torch.testing.assert_close(alpha * said.x0 + sigma * said.noise, x)


def test_u_vit_s_steps_are_those_of_euler_maruyama_for_the_vp_sde():
    """dx = (-beta x / 2 - beta score) dt + sqrt(beta) dw, run backward on U-ViT's own 1,000 steps."""
    cfg, _ = composed(["experiment=uvit_cifar"])
    sampler = instantiate({key: value for key, value in cfg.sampler.items() if key != "reuse"})
    process, way = VP(), stops(VP(), VP().grid(1000))
    assert (sampler.evaluations, sampler.clip) == (1000, False)
    x, x0 = torch.full((2,), 0.7, dtype=torch.float64), torch.tensor([-0.4, 0.9], dtype=torch.float64)
    for now, following in pairwise(way[:-1]):
        said = Denoised(x0, (x - now.alpha * x0) / now.sigma)
        quiet = sampler.step(x, said, now, following, lambda: torch.zeros_like(x))
        noisy = sampler.step(x, said, now, following, lambda: torch.ones_like(x))
        # at the middle of the step
        added = process.beta(torch.tensor((now.t + following.t) / 2)).item() * (now.t - following.t)
        torch.testing.assert_close((noisy - quiet) ** 2, torch.full_like(x, added), rtol=1.1e-2, atol=0)
        if now.t > 0.05:  # below, the score changes much in a step
            drift = added * (x / 2 - said.noise / now.sigma)
            torch.testing.assert_close(quiet - x, drift, rtol=2e-2, atol=2e-5)

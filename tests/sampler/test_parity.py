"""Our solvers against the schedulers of diffusers, step for step on the same grid, from the same start."""

from __future__ import annotations

import pytest
import torch
from oracle import Gaussian, denoiser

from dit_exp.process.continuous import ContinuousProcess
from dit_exp.process.linear import Linear
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.dpmpp_1 import DPMSolver1
from dit_exp.sampler.dpmpp_2m import DPMSolver2M
from dit_exp.sampler.dpmpp_3m import DPMSolver3M
from dit_exp.sampler.dpmpp_sde import DPMSolverSDE
from dit_exp.sampler.euler import Euler
from dit_exp.sampler.euler_ancestral import EulerAncestral
from dit_exp.sampler.heun import Heun
from dit_exp.sampler.unipc import UniPC

START = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PROCESS = Linear()
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


class Table(ContinuousProcess):
    """alpha 1 and the sigmas of a list, the first at t=1 and a sigma of 0 at t=0."""

    def __init__(self, sigmas: torch.Tensor) -> None:
        super().__init__()
        self.sigmas = sigmas.double()

    def coefficients(self, t):
        i = ((1 - t) * (len(self.sigmas) - 1)).round().long()
        return torch.ones_like(t), self.sigmas[i].to(t.dtype)

    def rates(self, t):
        raise NotImplementedError

    def time_at(self, ratio):
        raise NotImplementedError


def stream(seed: int = 7):
    g = torch.Generator().manual_seed(seed)
    return g, lambda: torch.randn(START.shape, generator=g, dtype=torch.float64)


def preserving(peer, steps: int, sampler, fresh=dict):
    """Both final states for a scheduler whose state preserves variance, fed with noise predictions.

    fresh  the scheduler's further arguments, asked for in every step
    """
    peer.set_timesteps(steps)
    indices = peer.timesteps.tolist()
    times = torch.tensor([*(i + 1 for i in indices), 0], dtype=torch.float64) / 1000
    exact, y = denoiser(Gaussian(PROCESS)), START
    for i, t in zip(indices, times[:-1], strict=True):
        y = peer.step(exact(y, t.expand(2)).noise, i, y, **fresh()).prev_sample
    return sampler(exact, START, PROCESS, stream()[1], times), y


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [9, 27])
def test_dpmpp_is_the_multistep_scheduler(order, steps):
    from diffusers import DPMSolverMultistepScheduler

    peer = DPMSolverMultistepScheduler(**LINEAR, solver_order=order)
    ours, theirs = preserving(peer, steps, {1: DPMSolver1, 2: DPMSolver2M}[order](steps))
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_dpmpp_sde_is_the_multistep_scheduler_with_the_same_noise():
    from diffusers import DPMSolverMultistepScheduler

    peer = DPMSolverMultistepScheduler(**LINEAR, solver_order=2, algorithm_type="sde-dpmsolver++")
    draw = stream()[1]
    ours, theirs = preserving(peer, 27, DPMSolverSDE(27), lambda: {"variance_noise": draw()})
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [9, 27])
def test_unipc_is_the_unipc_scheduler(order, steps):
    from diffusers import UniPCMultistepScheduler

    peer = UniPCMultistepScheduler(**LINEAR, solver_order=order, final_sigmas_type="zero")
    ours, theirs = preserving(peer, steps, UniPC(steps, order))
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_dpmpp_3m_differs_from_the_scheduler_by_half_of_its_second_difference_alone():
    from diffusers import DPMSolverMultistepScheduler

    peer = DPMSolverMultistepScheduler(**LINEAR, solver_order=3)
    peer.set_timesteps(5)
    indices = peer.timesteps.tolist()
    times = torch.tensor([*(i + 1 for i in indices), 0], dtype=torch.float64) / 1000
    exact, states, images = denoiser(Gaussian(PROCESS)), [START], []
    for i, t in zip(indices[:3], times, strict=False):
        said = exact(states[-1], t.expand(2))
        images.append(said.x0)
        states.append(peer.step(said.noise, i, states[-1]).prev_sample)
    walk = DPMSolver3M(5).trajectory(exact, START, PROCESS, stream()[1], times)
    ours = [next(walk)[0] for _ in range(3)]
    torch.testing.assert_close(ours[1], states[2], rtol=1e-4, atol=1e-4)
    alpha, sigma = PROCESS.coefficients(times[:4])
    lam = (alpha / sigma).log()
    h = float(lam[3] - lam[2])
    r0, r1 = float(lam[2] - lam[1]) / h, float(lam[1] - lam[0]) / h
    second = ((images[2] - images[1]) / r0 - (images[1] - images[0]) / r1) / (r0 + r1)
    share = -float(alpha[3]) * ((torch.tensor(-h).double().exp() - 1 + h) / h**2 - 0.5)
    assert float((share * second).abs().max()) > 5e-4
    torch.testing.assert_close(ours[2] - states[3], share * second, rtol=2e-2, atol=5e-6)


def test_ddim_is_the_ddim_scheduler_also_with_eta():
    from diffusers import DDIMScheduler

    for eta in (0.0, 0.6):
        peer = DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True)
        options = {"eta": eta, "generator": stream()[0]}
        ours, theirs = preserving(peer, 20, DDIM(20, eta, clip=False), options.copy)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def exploding(peer, steps: int, sampler, **options):
    """Both final states for a scheduler whose state is image + sigma noise, over its own sigmas."""
    peer.set_timesteps(steps)
    sigmas = torch.unique_consecutive(peer.sigmas)
    process = Table(sigmas)
    exact = denoiser(Gaussian(process))
    x = y = float(sigmas[0]) * START
    for t in peer.timesteps:
        peer.scale_model_input(y, t)
        sigma = peer.sigmas[peer.step_index]
        time = 1 - torch.argmin((sigmas - sigma).abs()) / (len(sigmas) - 1)
        y = peer.step(exact(y, time.double().expand(2)).noise, t, y, **options).prev_sample
    times = torch.linspace(1, 0, len(sigmas), dtype=torch.float64)
    return sampler(exact, x, process, stream()[1], times), y


def test_heun_is_the_heun_scheduler():
    from diffusers import HeunDiscreteScheduler

    ours, theirs = exploding(HeunDiscreteScheduler(**LINEAR), 12, Heun(12))
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_euler_is_the_euler_scheduler():
    from diffusers import EulerDiscreteScheduler

    ours, theirs = exploding(EulerDiscreteScheduler(**LINEAR), 12, Euler(12))
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_euler_ancestral_is_the_ancestral_scheduler_with_the_same_noise():
    from diffusers import EulerAncestralDiscreteScheduler

    peer = EulerAncestralDiscreteScheduler(**LINEAR)
    ours, theirs = exploding(peer, 12, EulerAncestral(12), generator=stream()[0])
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)

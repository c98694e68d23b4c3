"""Every sampler on exact denoisers: orders of convergence, exact moments, ends of the path, inversion."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import Gaussian, Mixture, denoiser, moments

from dit_exp.grid.karras import Karras
from dit_exp.process.cosine import Cosine
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.gvp import GVP
from dit_exp.process.linear import Linear
from dit_exp.process.quadratic import Quadratic
from dit_exp.process.sigmoid import Sigmoid
from dit_exp.process.subvp import SubVP
from dit_exp.process.vp import VP
from dit_exp.sampler.adams import Adams
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.ddpm import DDPM
from dit_exp.sampler.dpmpp_1 import DPMSolver1
from dit_exp.sampler.dpmpp_2m import DPMSolver2M
from dit_exp.sampler.dpmpp_3m import DPMSolver3M
from dit_exp.sampler.dpmpp_sde import DPMSolverSDE
from dit_exp.sampler.euler import Euler
from dit_exp.sampler.euler_ancestral import EulerAncestral
from dit_exp.sampler.heun import Heun
from dit_exp.sampler.inversion import Inversion
from dit_exp.sampler.sde import ReverseSDE
from dit_exp.sampler.unipc import UniPC

PROCESSES = {
    "flow": Flow(),
    "gvp": GVP(),
    "vp": VP(),
    "subvp": SubVP(),
    "edm": EDM(),
    "linear": Linear(),
    "zero terminal snr": Linear(zero_terminal_snr=True),
    "cosine": Cosine(),
    "quadratic": Quadratic(),
    "sigmoid": Sigmoid(),
}
CONTINUOUS = ("flow", "gvp", "vp", "subvp", "edm")
DETERMINISTIC = {
    "ddim": (lambda n: DDIM(n, clip=False), 1),
    "euler": (Euler, 1),
    "dpmpp_1": (DPMSolver1, 1),
    "heun": (Heun, 2),
    "adams-2": (lambda n: Adams(n, 2), 2),
    "adams-3": (lambda n: Adams(n, 3), 3),
    "adams-4": (lambda n: Adams(n, 4), 4),
    "dpmpp_2m": (DPMSolver2M, 2),
    "dpmpp_3m": (DPMSolver3M, 3),
    "unipc-1": (lambda n: UniPC(n, 1), 2),
    "unipc-2": (lambda n: UniPC(n, 2), 3),
    "unipc-3": (lambda n: UniPC(n, 3), 4),
}
STOCHASTIC = {
    "ddpm": lambda n: DDPM(n, clip=False),
    "ddim-eta": lambda n: DDIM(n, eta=0.7, clip=False),
    "euler_ancestral": EulerAncestral,
    "dpmpp_sde": DPMSolverSDE,
    "sde": ReverseSDE,
    "sde-half": lambda n: ReverseSDE(n, strength=0.5),
    "heun-churn": lambda n: Heun(n, churn=n / 10, churn_noise=1.0),
}
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)


def graded(process, steps: int) -> torch.Tensor:
    """Times whose first and last steps are small of second order, as a first step of order 1 needs.

    Graded in the straight path's time sigma / (alpha + sigma), of which the solution is a smooth function.
    """
    alpha, sigma = process.coefficients(torch.ones(1, dtype=torch.float64))
    share = (1 - torch.cos(math.pi * torch.linspace(1, 0, steps + 1, dtype=torch.float64))) / 2
    tau = share * sigma / (alpha + sigma)
    return process.time_at(tau / (1 - tau))


def slope(steps: list[int], errors: list[float]) -> float:
    """The fitted order: -d log(error) / d log(steps)."""
    x, y = torch.tensor(steps).double().log(), torch.tensor(errors).double().log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("path", CONTINUOUS)
def test_a_solver_has_its_order_from_noise_to_data(name, path):
    process, (sampler, order) = PROCESSES[path], DETERMINISTIC[name]
    oracle, errors, steps = Gaussian(process), [], [80, 160, 320]
    # Points on both sides of the mean, so that no accident of one start passes for an order.
    x = process.prior_scale * torch.tensor([-1.7, -0.4, 0.6, 1.3], dtype=torch.float64).reshape(4, 1, 1, 1)
    for n in steps:
        times = graded(process, n)
        exact = oracle.flow(x, times[0], times[-1])
        errors.append(float((sampler(n)(denoiser(oracle), x, process, None, times) - exact).norm()))
    assert order - 0.35 < slope(steps, errors) < order + 0.6


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_solver_has_its_order_where_the_denoiser_is_not_linear(name):
    sampler, order = DETERMINISTIC[name]
    process = Flow()
    means = torch.tensor([[-1.0, 0.5], [0.8, 0.2], [0.1, -0.9]], dtype=torch.float64).reshape(3, 1, 1, 2)
    oracle = Mixture(process, means, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    x = torch.randn(8, 1, 1, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    exact = Adams(1500, 4)(denoiser(oracle), x, process, None, graded(process, 1500))
    steps = [100, 200, 400]
    errors = [
        float((sampler(n)(denoiser(oracle), x, process, None, graded(process, n)) - exact).norm())
        for n in steps
    ]
    assert order - 0.35 < slope(steps, errors) < order + 0.6


@pytest.mark.parametrize("name", [*DETERMINISTIC, *STOCHASTIC])
@pytest.mark.parametrize("path", PROCESSES)
@pytest.mark.parametrize("steps", [1, 5])
def test_every_sampler_ends_finite_without_noise_and_with_the_stated_evaluations(name, path, steps):
    process = PROCESSES[path]
    sampler = DETERMINISTIC[name][0](steps) if name in DETERMINISTIC else STOCHASTIC[name](steps)
    times, seen, draws = process.grid(steps), [], []
    exact = denoiser(Gaussian(process))

    def denoise(x, t):
        seen.append(float(t[0]))
        assert x.isfinite().all()
        return exact(x, t)

    def draw():
        draws.append(len(seen))
        return ONE

    states = list(sampler.trajectory(denoise, process.prior_scale * ONE, process, draw, times))
    assert len(states) == steps
    assert all(x.isfinite().all() and x0.isfinite().all() for x, x0 in states)
    assert len(seen) == sampler.evaluations == (2 * steps - 1 if isinstance(sampler, Heun) else steps)
    assert min(seen) > 0  # sigma=0 is never asked for
    if not isinstance(sampler, Heun):
        assert seen == times[:-1].tolist()
        assert len(draws) == (steps - 1 if name in STOCHASTIC else 0)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("path", ["flow", "vp", "gvp", "subvp", "edm", "linear"])
def test_a_stochastic_sampler_keeps_the_exact_moments(name, path):
    process = PROCESSES[path]
    oracle = Gaussian(process)
    mean, std = moments(STOCHASTIC[name](1000), oracle, Karras()(process, 1000))
    assert mean == pytest.approx(oracle.mean, abs=5e-3)
    assert std == pytest.approx(oracle.std, rel=1e-2)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("path", ["flow", "vp", "edm"])
def test_the_variance_of_the_sde_is_exact_at_any_strength_in_the_limit_of_small_steps(path, strength):
    # Twice the noise for the same drift, or half of it, would be off by tens of per cent at every step size.
    process, off = PROCESSES[path], []
    for steps in (300, 600):
        _, std = moments(ReverseSDE(steps, strength), Gaussian(process), Karras()(process, steps))
        off.append(abs(std - 0.5))
    assert off[1] < 5e-3
    assert off[0] / off[1] == pytest.approx(2, rel=0.3)


def test_the_sde_stays_in_the_marginal_at_every_time():
    oracle = Gaussian(Flow(), mean=0.0)
    times = torch.linspace(1, 0.4, 301, dtype=torch.float64)
    for strength in (0.3, 1.0, 3.0):
        _, std = moments(ReverseSDE(300, strength), oracle, times)
        assert std == pytest.approx(math.hypot(0.6 * 0.5, 0.4), rel=1e-2)


def test_the_sde_s_step_on_the_straight_path_is_sit_s():
    # w = 2 t: backward a drift of -v + t score and noise of variance 2 t dt, to first order in dt.
    process, t, h = Flow(), 0.6, 1e-6
    x, said = 0.7 * ONE, denoiser(Gaussian(Flow()))(0.7 * ONE, torch.tensor([t], dtype=torch.float64))
    velocity, score = said.noise - said.x0, -said.noise / t
    times = torch.tensor([t, t - h], dtype=torch.float64)
    drift, _ = next(ReverseSDE(1).trajectory(lambda *_: said, x, process, lambda: 0 * ONE, times))
    noisy, _ = next(ReverseSDE(1).trajectory(lambda *_: said, x, process, lambda: ONE, times))
    assert float((drift - x) / h) == pytest.approx(float(-velocity + t * score), rel=1e-5)
    assert float((noisy - drift) ** 2 / h) == pytest.approx(2 * t, rel=1e-5)


@pytest.mark.parametrize("path", PROCESSES)
def test_ddim_euler_and_dpmpp_1_take_the_same_steps(path):
    process = PROCESSES[path]
    x = process.prior_scale * torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    exact = denoiser(Gaussian(process))
    ours = DDIM(17, clip=False)(exact, x, process, None)
    for other in (Euler(17), DPMSolver1(17), ReverseSDE(17, strength=0.0), Heun(1)):
        if other.steps == 1:
            ours = DDIM(1, clip=False)(exact, x, process, None)
        torch.testing.assert_close(other(exact, x, process, None), ours, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*DETERMINISTIC, *STOCHASTIC])
def test_two_walks_by_turns_do_not_meet(name):
    process, exact = VP(), denoiser(Gaussian(VP()))
    sampler = DETERMINISTIC[name][0](6) if name in DETERMINISTIC else STOCHASTIC[name](6)

    def alone(x):
        return [state for state, _ in sampler.trajectory(exact, x, process, lambda: ONE)]

    first, second = alone(ONE), alone(-2 * ONE)
    walks = (sampler.trajectory(exact, x, process, lambda: ONE) for x in (ONE, -2 * ONE))
    for i, ((a, _), (b, _)) in enumerate(zip(*walks, strict=True)):
        assert torch.equal(a, first[i])
        assert torch.equal(b, second[i])


@pytest.mark.parametrize("name", STOCHASTIC)
def test_each_image_has_its_own_noise_whatever_else_is_in_the_batch(name):
    process, exact, sampler = VP(), denoiser(Gaussian(VP())), STOCHASTIC[name](5)

    def drawing(seeds):
        streams = [torch.Generator().manual_seed(s) for s in seeds]
        return lambda: torch.stack([torch.randn(1, 2, 2, generator=g, dtype=torch.float64) for g in streams])

    def images(seeds):
        draw = drawing(seeds)
        return sampler(exact, draw(), process, draw)

    torch.testing.assert_close(images([4, 5, 6])[1], images([5])[0], rtol=1e-12, atol=1e-12)


def test_states_keep_the_dtype_of_x():
    for name in (*DETERMINISTIC, *STOCHASTIC):
        sampler = DETERMINISTIC[name][0](4) if name in DETERMINISTIC else STOCHASTIC[name](4)
        x = ONE.float()
        assert sampler(denoiser(Gaussian(VP())), x, VP(), lambda: ONE.float()).dtype == torch.float32


@pytest.mark.parametrize("path", ["flow", "vp", "edm", "linear"])
def test_inversion_finds_the_noise_and_sampling_returns_the_image(path):
    process = PROCESSES[path]
    exact, errors = denoiser(Gaussian(process)), []
    image = torch.tensor([-0.6, 0.1, 0.9], dtype=torch.float64).reshape(3, 1, 1, 1)
    for steps in (40, 80, 160):
        times = Karras()(process, steps)
        noise = Inversion()(exact, image, process, times)
        errors.append(float((DDIM(steps, clip=False)(exact, noise, process, None, times) - image).norm()))
    assert errors[-1] < 2e-2
    assert slope([40, 80, 160], errors) > 0.9
    times = Karras()(process, 40)
    again = Inversion(iterations=60)(exact, image, process, times)
    back = DDIM(40, clip=False)(exact, again, process, None, times)
    torch.testing.assert_close(back, image, rtol=1e-6, atol=1e-6)
    # The exact path's start, to the solver's order.
    end, start = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    exact_noise = Gaussian(process).flow(image, end, start)
    assert float((noise - exact_noise).norm()) < 0.05 * float(exact_noise.norm())


def test_churn_raises_the_noise_as_edm_says():
    process, seen = EDM(), []
    exact = denoiser(Gaussian(process))

    def denoise(x, t):
        seen.append(float(process.coefficients(t)[1][0]))
        return exact(x, t)

    sampler = Heun(18, churn=40, churn_interval=(0.05, 50.0))
    sampler(denoise, 80 * ONE, process, lambda: ONE)
    sigmas = process.coefficients(process.grid(18))[1].tolist()
    firsts = [seen[0], *seen[2::2]]
    gamma = min(40 / 18, math.sqrt(2) - 1)
    for sigma, met in zip(sigmas, [seen[2 * i] for i in range(18)], strict=False):
        assert met == pytest.approx(sigma * (1 + gamma) if 0.05 <= sigma <= 50 else sigma, rel=1e-9)
    assert len(firsts) == 18

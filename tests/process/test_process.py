"""Tables of the discrete processes against published figures, and the straight path's identities."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.nn.embed import sinusoid
from dit_exp.process.cosine import Cosine
from dit_exp.process.discrete import DiscreteProcess
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.gvp import GVP
from dit_exp.process.linear import Linear
from dit_exp.process.quadratic import Quadratic
from dit_exp.process.sigmoid import Sigmoid
from dit_exp.process.subvp import SubVP
from dit_exp.process.vp import VP

CONTINUOUS = [Flow(), VP(), SubVP(), GVP(), EDM()]
DISCRETE = [Linear(), Linear(steps=100), Cosine(), Quadratic(), Sigmoid(), Linear(zero_terminal_snr=True)]


def name(process) -> str:
    return type(process).__name__


def betas(process: DiscreteProcess) -> torch.Tensor:
    abar = process.alpha**2
    return 1 - abar[1:] / abar[:-1]


def test_linear_tables():
    abar = Linear().alpha ** 2
    assert float(abar[1000]) == pytest.approx(4.0358e-5, rel=1e-4)
    assert float(abar[500]) == pytest.approx(0.07859, rel=1e-4)
    assert float(betas(Linear())[0]) == pytest.approx(1e-4)
    assert float(betas(Linear())[999]) == pytest.approx(0.02)


def test_cosine_tables():
    beta = betas(Cosine())
    assert float(beta[0]) == pytest.approx(4.1284e-5, rel=1e-4)
    assert float(beta[998]) == pytest.approx(0.75, abs=1e-3)
    assert float(beta[999]) == pytest.approx(0.999, abs=1e-9)
    assert float(Cosine().alpha[1000] ** 2) == pytest.approx(2.43e-9, rel=1e-2)


def test_quadratic_keeps_some_signal_to_the_end():
    assert float(Quadratic().alpha[1000] ** 2) == pytest.approx(7.334e-4, rel=1e-3)
    assert float(Quadratic().alpha[1000]) == pytest.approx(0.0271, abs=5e-5)


@pytest.mark.parametrize("make", [Linear, Cosine, Quadratic, Sigmoid])
def test_tables_equal_diffusers(make):
    from diffusers import DDPMScheduler

    names = {Cosine: "squaredcos_cap_v2", Quadratic: "scaled_linear"}
    schedule = names.get(make, make.__name__.lower())
    peer = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule=schedule)
    torch.testing.assert_close(make().alpha[1:].float() ** 2, peer.alphas_cumprod, rtol=2e-4, atol=1e-7)


def test_zero_terminal_snr_equals_diffusers_and_keeps_the_first_step():
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(beta_start=1e-4, beta_end=0.02, rescale_betas_zero_snr=True).alphas_cumprod
    rescaled = Linear(zero_terminal_snr=True)
    torch.testing.assert_close(rescaled.alpha[1:].float() ** 2, peer, rtol=2e-4, atol=1e-6)
    assert rescaled.alpha[0] == 1
    assert rescaled.alpha[1] == Linear().alpha[1]
    assert rescaled.alpha[-1] == 0
    assert rescaled.prior_scale == 1


def test_zero_terminal_snr_of_a_single_step_is_refused():
    with pytest.raises(ValueError, match=r"needs process.steps of at least 2"):
        Cosine(steps=1, zero_terminal_snr=True)


@pytest.mark.parametrize("make", [Linear, Quadratic, Sigmoid])
@pytest.mark.parametrize("steps", [200, 4000])
def test_as_much_noise_is_added_whatever_the_number_of_steps(make, steps):
    for share in (0.3, 0.7, 1.0):
        few, thousand = (float(make(n).alpha[round(share * n)].log()) for n in (steps, 1000))
        assert few == pytest.approx(thousand, rel=0.07)


@pytest.mark.parametrize("process", DISCRETE, ids=name)
def test_variance_is_preserved_and_the_signal_falls(process: DiscreteProcess):
    torch.testing.assert_close(process.alpha**2 + process.sigma**2, torch.ones_like(process.alpha))
    assert (process.alpha.diff() < 0).all()
    assert process.alpha[0] == 1
    assert process.sigma[0] == 0


def test_the_first_training_state_has_one_step_of_noise():
    process = Linear()
    assert float(process.coefficients(process.times(torch.full((1,), 1e-9)))[1]) == pytest.approx(0.01)


def test_training_times_reach_both_ends_and_no_further():
    process = Linear()
    t = process.times(torch.rand(1_000_000, generator=torch.Generator().manual_seed(0)))
    index = process.network_time(t)
    assert index.min() == 0
    assert index.max() == 999
    assert torch.equal(index, index.round())


def test_more_of_u_is_more_noise_in_every_process():
    u = torch.linspace(1e-6, 1, 50)
    for process in CONTINUOUS + DISCRETE:
        t = process.times(u)
        assert (t.diff() > 0).all()
        assert t[-1] == 1
        assert t[0] > 0
        assert process.coefficients(t[:1])[1] > 0


def test_every_index_survives_the_way_through_t_in_float32():
    index = torch.arange(1000)
    t = ((index + 1) / 1000).float()
    assert torch.equal(Linear().network_time(t).long(), index)


def test_respacing_tells_the_network_the_original_index():
    process = Linear()
    told = process.network_time(process.grid(250)[:-1]).flip(0).long().tolist()
    assert told[:4] == [0, 4, 8, 12]
    assert told[-1] == 999
    assert len(told) == 250
    assert process.network_time(process.grid(1)[:-1]).tolist() == [999]


def test_more_sampling_steps_than_the_process_has_are_refused():
    with pytest.raises(ValueError, match=r"sampler.steps=1001 is not possible: the process has 1000 steps"):
        Linear().grid(1001)


def test_the_straight_path_is_its_ends_and_its_slope():
    flow = Flow()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    alpha, sigma = flow.coefficients(t)
    assert alpha.tolist() == [1, 0.75, 0]
    assert sigma.tolist() == [0, 0.25, 1]
    assert torch.equal(torch.stack(flow.velocity(t)), torch.stack(flow.rates(t)))
    assert flow.grid(4).tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize("process", CONTINUOUS, ids=name)
def test_a_continuous_process_goes_from_data_to_noise(process):
    alpha, sigma = process.coefficients(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (alpha[0], sigma[0]) == (1, 0)
    assert ((sigma / alpha).diff() > 0).all()
    assert float(sigma[-1] / alpha[-1]) > 75
    grid = process.grid(7)
    assert len(grid) == 8
    assert (grid[0], grid[-1]) == (1, 0)
    assert (grid.diff() < 0).all()


def test_vp_is_the_limit_of_ddpm_s_linear_betas():
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    fine = Linear(steps=100_000)
    for ours, table in zip(VP().coefficients(t), fine.coefficients(t), strict=True):
        torch.testing.assert_close(ours, table, rtol=2e-3, atol=1e-5)
    alpha, sigma = VP().coefficients(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    assert float(VP().coefficients(torch.ones(1).double())[0]) == pytest.approx(math.exp(-10.05 / 2))


def test_subvp_has_the_signal_of_vp_and_its_variance_squared():
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    (alpha, sigma), (same, larger) = SubVP().coefficients(t), VP().coefficients(t)
    assert torch.equal(alpha, same)
    torch.testing.assert_close(sigma, larger**2)


def test_gvp_has_half_pi_times_v_as_its_velocity():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    for rate, v in zip(GVP().rates(t), GVP().velocity(t), strict=True):
        torch.testing.assert_close(rate, math.pi / 2 * v)


def test_edm_s_grid_is_the_papers():
    n, low, high = 18, 0.002 ** (1 / 7), 80 ** (1 / 7)
    levels = [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)] + [0]
    alpha, sigma = EDM().coefficients(EDM().grid(n))
    torch.testing.assert_close(sigma, torch.tensor(levels, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert (alpha == 1).all()
    assert EDM().prior_scale == 80
    assert float(EDM().coefficients(EDM().times(torch.tensor([1e-12]).double()))[1]) == pytest.approx(0.002)


def test_edm_shows_the_network_unit_variance_and_a_quarter_of_the_log():
    process, t = EDM(), torch.tensor([0.3, 0.6, 1.0]).double()
    _, sigma = process.coefficients(t)
    scale = process.input_scale(t)
    torch.testing.assert_close(scale**2 * (sigma**2 + 0.5**2), torch.ones(3).double())
    torch.testing.assert_close(process.network_time(t), 1000 * sigma.log() / 4)
    assert (VP().input_scale(t) == 1).all()


@pytest.mark.parametrize("process", CONTINUOUS, ids=name)
def test_rates_are_the_slopes_of_alpha_and_sigma(process):
    t = torch.linspace(0.05, 0.95, 91, dtype=torch.float64)
    ahead, behind = process.coefficients(t + 1e-6), process.coefficients(t - 1e-6)
    for rate, later, earlier in zip(process.rates(t), ahead, behind, strict=True):
        torch.testing.assert_close((later - earlier) / 2e-6, rate, rtol=1e-6, atol=1e-6)


def test_rates_of_the_cosine_schedule_are_those_of_its_formula():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    angle = (t + 0.008) / 1.008 * torch.pi / 2
    start = math.cos(0.008 / 1.008 * math.pi / 2)
    alpha, alpha_rate = angle.cos() / start, -angle.sin() / start * math.pi / 2.016
    ours = Cosine().rates(t)
    torch.testing.assert_close(ours[0], alpha_rate, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1], -alpha * alpha_rate / (1 - alpha**2).sqrt(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("process", DISCRETE, ids=name)
def test_rates_of_a_discrete_process_keep_the_variance(process):
    t = torch.arange(1, process.steps + 1).double() / process.steps
    (alpha, sigma), (alpha_rate, sigma_rate) = process.coefficients(t), process.rates(t)
    assert (alpha * alpha_rate + sigma * sigma_rate).abs().max() < 1e-12
    assert (sigma_rate[alpha > 0] > 0).all()


@pytest.mark.parametrize("process", CONTINUOUS + DISCRETE, ids=name)
def test_time_at_inverts_the_ratio_of_noise_to_signal(process):
    t = process.times(torch.linspace(0.001, 1, 500, dtype=torch.float64))
    alpha, sigma = process.coefficients(t)
    torch.testing.assert_close(process.time_at(sigma / alpha), t, rtol=1e-9, atol=1e-9)
    ends = process.time_at(torch.tensor([0.0, math.inf]))
    assert ends.tolist() == [0, pytest.approx(1)]
    assert process.time_at(torch.tensor(1e-6)) > 0


def test_time_at_finds_the_nearest_step():
    process = Linear()
    ratio = process.sigma[500:502] / process.alpha[500:502]
    between = torch.lerp(ratio[0].log(), ratio[1].log(), torch.tensor([0.4, 0.6]).double()).exp()
    assert (process.time_at(between) * 1000).round().tolist() == [500, 501]


@pytest.mark.parametrize("process", CONTINUOUS + DISCRETE, ids=name)
def test_sampling_starts_from_noise_of_sigma_at_1(process):
    assert process.prior_scale == pytest.approx(float(process.coefficients(torch.ones(1).double())[1]))


@pytest.mark.parametrize("process", [p for p in CONTINUOUS + DISCRETE if not isinstance(p, Flow)], ids=name)
def test_velocity_is_the_direction_of_noise_at_right_angles_to_x(process):
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    (alpha, sigma), (a, b) = process.coefficients(t), process.velocity(t)
    assert (alpha * a + sigma * b).abs().max() < 1e-12
    torch.testing.assert_close(a**2 + b**2, torch.ones_like(a))


def test_betas_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"reach from 0.0001 to 1.5.*between 0 and 1"):
        Linear(end=1.5)
    with pytest.raises(ValueError, match=r"from 0.01 to 2.*raise process.steps"):
        Linear(steps=10)


@pytest.mark.parametrize(
    ("make", "keys", "text"),
    [
        (Linear, {"start": 0.03}, "process.start=0.03 and process.end=0.02"),
        (VP, {"beta_min": 30.0}, "process.beta_min=30.0 and process.beta_max=20.0"),
        (EDM, {"sigma_min": 0.0}, "process.sigma_min=0.0 and process.sigma_max=80.0"),
        (EDM, {"rho": 0.0}, "process.rho=0.0 and process.sigma_data=0.5"),
        (Flow, {"time_scale": 0.0}, "process.time_scale=0.0 must be above 0"),
    ],
)
def test_ranges_that_are_none_are_refused_by_their_keys(make, keys, text):
    with pytest.raises(ValueError, match=text):
        make(**keys)


def effective_rank(told: torch.Tensor) -> float:
    share = torch.linalg.svdvals(sinusoid(told, 256)) ** 2
    share = share / share.sum()
    return float((-(share * share.clamp(min=1e-12).log()).sum()).exp())


@pytest.mark.parametrize("process", CONTINUOUS + [p for p in DISCRETE if p.steps == 1000], ids=name)
def test_the_network_can_tell_the_times_of_a_process_apart(process):
    t = process.times(torch.linspace(0.01, 1, 100))
    assert effective_rank(process.network_time(t)) > 8
    assert effective_rank(t) < 2  # what t itself would say through frequencies made for a thousand steps

"""Tables of the discrete processes against published figures, and the straight path's identities."""

from __future__ import annotations

import pytest
import torch

from dit_exp.nn.embed import sinusoid
from dit_exp.process.cosine import Cosine
from dit_exp.process.discrete import DiscreteProcess
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.quadratic import Quadratic


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


@pytest.mark.parametrize("make", [Linear, Cosine, Quadratic])
def test_tables_equal_diffusers(make):
    from diffusers import DDPMScheduler

    name = {Linear: "linear", Cosine: "squaredcos_cap_v2", Quadratic: "scaled_linear"}[make]
    peer = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule=name)
    torch.testing.assert_close(make().alpha[1:].float() ** 2, peer.alphas_cumprod, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("process", [Linear(), Linear(steps=500), Cosine(), Quadratic()])
def test_variance_is_preserved_and_the_signal_falls(process: DiscreteProcess):
    torch.testing.assert_close(process.alpha**2 + process.sigma**2, torch.ones_like(process.alpha))
    assert (process.alpha.diff() < 0).all()
    assert process.alpha[0] == 1
    assert process.sigma[0] == 0


def test_the_first_training_state_has_one_step_of_noise():
    process = Linear()
    assert float(process.coefficients(process.times(torch.zeros(1)))[1]) == pytest.approx(0.01)


def test_training_times_reach_both_ends_and_no_further():
    process = Linear()
    t = process.times(torch.rand(1_000_000, generator=torch.Generator().manual_seed(0)))
    index = process.network_time(t)
    assert index.min() == 0
    assert index.max() == 999
    assert torch.equal(index, index.round())


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
    ahead = flow.coefficients(t + 1e-6)
    for slope, now, later in zip(flow.velocity(t), (alpha, sigma), ahead, strict=True):
        torch.testing.assert_close((later - now) / 1e-6, slope, rtol=1e-6, atol=1e-6)
    assert flow.grid(4).tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_betas_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        Linear(end=1.5)


def test_the_network_can_tell_the_times_of_the_straight_path_apart():
    def effective_rank(times: torch.Tensor) -> float:
        share = torch.linalg.svdvals(sinusoid(times, 256)) ** 2
        share = share / share.sum()
        return float((-(share * share.clamp(min=1e-12).log()).sum()).exp())

    t = torch.linspace(0, 1, 100)
    assert effective_rank(Flow().network_time(t)) > 8
    assert effective_rank(t) < 2  # what t itself would say through frequencies made for a thousand steps

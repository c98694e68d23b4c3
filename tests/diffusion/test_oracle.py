"""The exact denoisers are exact: checked by integration, by regression and by the ODE they imply."""

from __future__ import annotations

import pytest
import torch
from oracle import Gaussian, Mixture, denoiser, network

from dit_exp.objective.v import VelocityPrediction
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.vp import VP
from dit_exp.timesteps.uniform import Uniform

PROCESSES = [Linear(), Flow(), VP(), EDM()]
MEANS = torch.tensor([-0.6, 0.1, 0.7], dtype=torch.float64).reshape(3, 1, 1, 1)
WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def mixture(process) -> Mixture:
    return Mixture(process, MEANS, WEIGHTS, std=0.2)


def by_integration(process, x: torch.Tensor, t: torch.Tensor, weights: torch.Tensor, std: float):
    """E[x_0 | x_t] of one pixel, by a sum over a fine grid of x_0."""
    x0 = torch.linspace(-4, 4, 40_001, dtype=torch.float64)
    prior = (weights[:, None] * (-((x0 - MEANS.flatten()[:, None]) ** 2) / (2 * std**2)).exp()).sum(0)
    alpha, sigma = process.coefficients(t)
    joint = prior * (-((x[:, None] - alpha[:, None] * x0) ** 2) / (2 * sigma[:, None] ** 2)).exp()
    return (joint * x0).sum(1) / joint.sum(1)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("label", [0, 2, 3])
def test_the_mixture_s_denoiser_is_the_posterior_mean(process, label):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    t = torch.linspace(0.2, 0.9, 9, dtype=torch.float64)
    weights = WEIGHTS if label == 3 else torch.eye(3, dtype=torch.float64)[label]
    ours = mixture(process)(x.reshape(-1, 1, 1, 1), t, torch.full((9,), label)).flatten()
    torch.testing.assert_close(ours, by_integration(process, x, t, weights, 0.2), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("process", PROCESSES)
def test_one_component_is_the_gaussian(process):
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = process.times(torch.linspace(0.1, 1, 5, dtype=torch.float64))
    one = Mixture(process, torch.full((1, 2, 3, 3), 0.3).double(), torch.ones(1).double(), std=0.5)
    torch.testing.assert_close(one(x, t), Gaussian(process)(x, t))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_exact_flow_solves_the_ode_of_the_exact_denoiser(process):
    oracle, x = Gaussian(process), torch.linspace(-1, 1, 5, dtype=torch.float64).reshape(5, 1, 1, 1)
    start, t = torch.tensor(0.8).double(), torch.tensor(0.6).double()
    h = 1e-3  # one step of the discrete process
    slope = (oracle.flow(x, start, t + h) - oracle.flow(x, start, t - h)) / (2 * h)
    at = oracle.flow(x, start, t)
    said, (a, b) = denoiser(oracle)(at, t.expand(5)), process.rates(t)
    torch.testing.assert_close(slope, a * said.x0 + b * said.noise, rtol=1e-4, atol=1e-4)


def test_as_a_network_it_predicts_what_the_objective_asks_for():
    process = Linear()
    objective = VelocityPrediction(process=process, timesteps=Uniform())
    oracle = mixture(process)
    x = torch.randn(4, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t, label = torch.full((4,), 0.5).double(), torch.tensor([0, 1, 2, 3])
    said = objective.denoised(network(oracle, objective)(x, t, label), x, t)
    torch.testing.assert_close(said.x0, oracle(x, t, label))


def test_samples_have_the_mixture_s_mean_and_labels():
    data, label = mixture(Flow()).sample(50_000, torch.Generator().manual_seed(0))
    assert float(data.mean()) == pytest.approx(float((WEIGHTS * MEANS.flatten()).sum()), abs=0.01)
    shares = label.bincount() / 50_000
    torch.testing.assert_close(shares.double(), WEIGHTS, rtol=0, atol=0.01)
    assert float(data[label == 1].std()) == pytest.approx(0.2, abs=0.01)

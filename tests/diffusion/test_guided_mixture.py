"""Guidance on a mixture, where all conditional answers are known."""

from __future__ import annotations

import pytest
import torch
from oracle import Mixture, network

from dit_exp.guidance.cfg import ClassifierFreeGuidance
from dit_exp.objective.eps import NoisePrediction
from dit_exp.objective.v import VelocityPrediction
from dit_exp.objective.x import ImagePrediction
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.vp import VP
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.denoise import Denoise
from dit_exp.timesteps.uniform import Uniform

MEANS = torch.tensor([-1.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
PREDICTIONS = (NoisePrediction, VelocityPrediction, ImagePrediction)


def guided(process, objective, scale: float, label: torch.Tensor) -> Denoise:
    oracle = Mixture(process, MEANS, WEIGHTS)
    made = objective(process, Uniform())
    guidance = ClassifierFreeGuidance(oracle.null_label, scale=scale)
    return Denoise(network(oracle, made), made, guidance, label, None)


@pytest.mark.parametrize("objective", PREDICTIONS)
@pytest.mark.parametrize("process", [VP(), Linear()])
def test_guided_noise_is_the_score_plus_the_scaled_gradient_of_the_label_s_probability(process, objective):
    oracle, scale = Mixture(process, MEANS, WEIGHTS), 2.5
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(9, 1, 1, 1).requires_grad_()
    t, label = torch.full((9,), 0.4, dtype=torch.float64), torch.ones(9, dtype=torch.int64)
    alpha, sigma = process.coefficients(t[:1])
    variance = alpha**2 * oracle.std**2 + sigma**2
    density = (WEIGHTS * torch.exp(-((x[:, 0, 0] - alpha * MEANS[:, 0, 0, 0]) ** 2) / (2 * variance))).sum(1)
    tempered = density.log() + scale * oracle.posterior(x, t)[:, 1].log()
    [score] = torch.autograd.grad(tempered.sum(), x)
    said = guided(process, objective, scale, label)(x.detach(), t)
    torch.testing.assert_close(said.noise, -sigma * score, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("objective", PREDICTIONS[1:])
def test_the_scale_moves_mass_from_all_components_to_the_label_s_and_beyond(objective):
    process, n = Flow(), 2000
    # Quantiles of the normal in place of random draws: the ODE's map keeps their order.
    x = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).reshape(n, 1, 1, 1)
    label = torch.zeros(n, dtype=torch.int64)

    def drawn(scale):
        denoise = guided(process, objective, scale, label)
        return DDIM(100, clip=False)(denoise, x, process, None).flatten()

    shares = [float((drawn(scale) < 0).double().mean()) for scale in (0.0, 0.25, 0.5, 1.0)]
    assert shares[0] == pytest.approx(0.3, abs=0.01)
    assert shares[0] < shares[1] < shares[2] < shares[3] == 1
    exact = drawn(1.0)
    assert float(exact.mean()) == pytest.approx(-1.0, abs=1e-2)
    assert float(exact.std()) == pytest.approx(0.25, abs=1e-2)
    assert float(drawn(4.0).mean()) < -1.05  # away from the other component, past the label's own mean


def test_predictions_agree_under_guidance():
    process, x = VP(), torch.randn(5, 1, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    t, label = torch.linspace(0.1, 1, 5, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 2])
    first, *others = (guided(process, objective, 3.0, label)(x, t) for objective in PREDICTIONS)
    for other in others:
        torch.testing.assert_close(other.x0, first.x0, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(other.noise, first.noise, rtol=1e-7, atol=1e-7)

"""Predictions convert into each other, and their losses are what the papers say."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.objective.eps import NoisePrediction
from dit_exp.objective.eps_hybrid import HybridNoisePrediction, discretized_log_likelihood
from dit_exp.objective.v import VelocityPrediction
from dit_exp.objective.x import ImagePrediction
from dit_exp.process.cosine import Cosine
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.timesteps.uniform import Uniform

SHAPE = (16, 3, 4, 4)


def made(kind, process):
    return kind(process=process, timesteps=Uniform())


@pytest.mark.parametrize(
    ("kind", "process"),
    [
        (NoisePrediction, Linear()),
        (ImagePrediction, Linear()),
        (VelocityPrediction, Linear()),
        (VelocityPrediction, Cosine()),
        (ImagePrediction, Flow()),
        (VelocityPrediction, Flow()),
    ],
)
def test_the_true_target_gives_back_image_and_noise(kind, process):
    objective = made(kind, process)
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, *SHAPE, generator=g, dtype=torch.float64)
    t = process.times(torch.linspace(0.01, 0.9, 16, dtype=torch.float64))
    alpha, sigma = (v[:, None, None, None] for v in process.coefficients(t))
    said = objective.denoised(objective.target(x0, noise, t), alpha * x0 + sigma * noise, t)
    torch.testing.assert_close(said.x0, x0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(said.noise, noise, rtol=1e-6, atol=1e-6)


def test_targets_are_the_papers():
    x0, noise = torch.randn(2, *SHAPE)
    t = torch.full((16,), 0.5)
    a, s = Linear().coefficients(t[:1])
    assert torch.equal(made(NoisePrediction, Linear()).target(x0, noise, t), noise)
    assert torch.equal(made(ImagePrediction, Linear()).target(x0, noise, t), x0)
    torch.testing.assert_close(made(VelocityPrediction, Linear()).target(x0, noise, t), a * noise - s * x0)
    torch.testing.assert_close(made(VelocityPrediction, Flow()).target(x0, noise, t), noise - x0)


def test_the_loss_of_a_silent_network_is_the_mean_square_of_the_target_image_by_image():
    torch.manual_seed(0)
    x0 = torch.zeros(20_000, 1, 2, 2)
    loss = made(NoisePrediction, Linear()).loss(lambda x, t, y: torch.zeros_like(x), x0, None)
    assert loss.shape == (20_000,)
    assert float(loss.mean()) == pytest.approx(1.0, abs=0.02)


def test_noise_prediction_on_a_path_that_ends_in_pure_noise_is_refused():
    with pytest.raises(ValueError, match=r"objective=eps cannot be used.*Use objective=v or objective=x"):
        made(NoisePrediction, Flow())


def test_learned_variance_on_a_continuous_path_is_refused():
    with pytest.raises(ValueError, match="objective=eps_hybrid learns the variance of discrete steps"):
        made(HybridNoisePrediction, Flow())


def test_posterior_variance_table_is_published_and_finite():
    hybrid = made(HybridNoisePrediction, Linear())
    assert math.exp(hybrid.log_small[1]) == pytest.approx(5.4532e-5, rel=1e-4)
    assert float(hybrid.log_small[0]) == pytest.approx(-9.8167, abs=1e-3)
    assert hybrid.log_small[0] == hybrid.log_small[1]
    assert hybrid.log_small.isfinite().all()


def test_the_bound_trains_the_variance_and_not_the_mean():
    hybrid = made(HybridNoisePrediction, Linear())
    x0, noise = torch.randn(2, *SHAPE)
    t = torch.full((16,), 0.4)
    out = torch.zeros(16, 6, 4, 4, requires_grad=True)
    a, s = Linear().coefficients(t[:1])
    hybrid.error(out, x0, noise, a * x0 + s * noise, t).sum().backward()
    plain = torch.zeros(16, 3, 4, 4, requires_grad=True)
    made(NoisePrediction, Linear()).error(plain, x0, noise, a * x0 + s * noise, t).sum().backward()
    assert torch.equal(out.grad[:, :3], plain.grad)
    assert out.grad[:, 3:].abs().min() > 0


def test_the_bound_is_zero_where_the_network_says_the_posterior():
    hybrid = made(HybridNoisePrediction, Linear())
    x0, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
    t = torch.full((16,), 0.4, dtype=torch.float64)
    a, s = Linear().coefficients(t[:1])
    truth = torch.cat([noise, -torch.ones_like(noise)], dim=1)
    assert hybrid.bound(truth, x0, a * x0 + s * noise, t).abs().max() < 1e-9


def test_8_bit_likelihood_sums_to_one_over_the_256_values():
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for scale in (-4.0, -2.0, 0.0):
        total = discretized_log_likelihood(values, torch.tensor(0.1), torch.tensor(scale)).exp().sum()
        assert float(total) == pytest.approx(1.0, abs=1e-6)

"""Every weighting's formula, and that it is one loss on x0 whatever is predicted."""

from __future__ import annotations

import itertools

import pytest
import torch

from dit_exp.objective.edm import PreconditionedPrediction
from dit_exp.objective.eps import NoisePrediction
from dit_exp.objective.flow import FlowPrediction
from dit_exp.objective.prediction import per_image
from dit_exp.objective.v import VelocityPrediction
from dit_exp.objective.x import ImagePrediction
from dit_exp.objective.x_velocity import ImageAsVelocity
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.vp import VP
from dit_exp.timesteps.uniform import Uniform
from dit_exp.weighting.edm import EDMWeighting
from dit_exp.weighting.min_snr import MinSNR
from dit_exp.weighting.none import NoWeighting
from dit_exp.weighting.p2 import P2
from dit_exp.weighting.snr import SNR
from dit_exp.weighting.soft_min_snr import SoftMinSNR
from dit_exp.weighting.uncertainty import Uncertainty

# What each paper states, as the weight of the squared error of x0 at s = sigma / alpha.
PUBLISHED = [
    (SNR(), lambda s: 1 / s**2),
    (MinSNR(), lambda s: torch.minimum(1 / s**2, torch.tensor(5.0))),
    (SoftMinSNR(gamma=4.0), lambda s: 1 / (s**2 + 1 / 4)),
    (EDMWeighting(), lambda s: (s**2 + 0.5**2) / (0.5 * s) ** 2),
    (P2(), lambda s: s**-2 / (1 + s**-2)),
    (P2(gamma=0.5, k=2.0), lambda s: s**-2 / (2 + s**-2).sqrt()),
]
PREDICTIONS = [
    NoisePrediction, ImagePrediction, VelocityPrediction, FlowPrediction, PreconditionedPrediction,
    ImageAsVelocity,
]  # fmt: skip
ONE = torch.ones(6, dtype=torch.float64)


def name(part) -> str:
    return getattr(part, "__name__", type(part).__name__)


def losses(kind, process, weighting, estimate, x0, noise, t):
    """What a network that estimates x0 as `estimate` loses, whatever it has to say."""
    objective = kind(process=process, timesteps=Uniform(), weighting=weighting)
    alpha, sigma = (per_image(v, x0) for v in process.coefficients(t))
    x_t = alpha * x0 + sigma * noise
    out = objective.target(estimate, (x_t - alpha * estimate) / sigma, t)
    return objective.error(out, x0, noise, x_t, t)


def scene(process):
    g = torch.Generator().manual_seed(0)
    x0, noise, estimate = torch.randn(3, 6, 1, 2, 2, generator=g, dtype=torch.float64)
    return estimate, x0, noise, process.times(torch.linspace(0.3, 0.9, 6, dtype=torch.float64))


@pytest.mark.parametrize(("weighting", "published"), PUBLISHED, ids=[name(w) for w, _ in PUBLISHED])
@pytest.mark.parametrize("process", [Linear(), VP(), EDM()], ids=name)
@pytest.mark.parametrize("kind", PREDICTIONS, ids=name)
def test_the_loss_is_the_published_weight_times_the_error_of_x0(weighting, published, process, kind):
    estimate, x0, noise, t = scene(process)
    alpha, sigma = process.coefficients(t)
    of_image = (estimate - x0).square().flatten(1).mean(1)
    ours = losses(kind, process, weighting, estimate, x0, noise, t)
    torch.testing.assert_close(ours, published(sigma / alpha) * of_image, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weighting", [w for w, _ in PUBLISHED], ids=name)
def test_pure_noise_has_a_finite_weight_for_predictions_that_stand_it(weighting):
    for process, kind in itertools.product([Flow(), Linear(zero_terminal_snr=True)], PREDICTIONS[1:]):
        objective = kind(process=process, timesteps=Uniform(), weighting=weighting)
        x0, noise = torch.randn(2, 1, 1, 2, 2)
        loss = objective.error(torch.randn(1, 1, 2, 2), x0, noise, noise, torch.ones(1))
        assert loss.isfinite().all()


def test_no_weighting_is_each_prediction_s_own_error():
    process = Linear()
    estimate, x0, noise, t = scene(process)
    alpha, sigma = process.coefficients(t)
    of_image = (estimate - x0).square().flatten(1).mean(1)
    for kind, factor in (
        (NoisePrediction, (alpha / sigma) ** 2),
        (ImagePrediction, ONE),
        (VelocityPrediction, (alpha / sigma) ** 2 + 1),
    ):
        ours = losses(kind, process, NoWeighting(), estimate, x0, noise, t)
        torch.testing.assert_close(ours, factor * of_image)


def test_pairs_that_papers_state_in_other_words_are_equal():
    """SNR is eps's own error, EDM's weight is F's own, and v's own is EDM's at sigma_data 1."""
    process = VP()
    given = scene(process)
    for kind, weighting in (
        (NoisePrediction, SNR()),
        (PreconditionedPrediction, EDMWeighting()),
        (VelocityPrediction, EDMWeighting(sigma_data=1.0)),
    ):
        own = losses(kind, process, None, *given)
        torch.testing.assert_close(losses(kind, process, weighting, *given), own)


def test_p2_and_min_snr_on_eps_are_what_their_papers_multiply_ddpm_s_loss_by():
    process = Linear()
    given = scene(process)
    alpha, sigma = process.coefficients(given[-1])
    snr = (alpha / sigma) ** 2
    simple = losses(NoisePrediction, process, None, *given)
    p2 = losses(NoisePrediction, process, P2(), *given)
    torch.testing.assert_close(p2, simple / (1 + snr))
    cut = losses(NoisePrediction, process, MinSNR(), *given)
    torch.testing.assert_close(cut, simple * snr.clamp(max=5) / snr)


def test_the_uncertainty_starts_as_the_plain_error_and_learns_its_logarithm():
    weighting = Uncertainty()
    sigma = torch.logspace(-2, 2, 60)
    error = 0.1 + 3 / (1 + sigma**2)
    alpha, one = torch.ones(60), torch.ones(60)
    assert torch.equal(weighting(error, alpha, sigma, one), error)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        weighting(error, alpha, sigma, one).mean().backward()
        optimizer.step()
    torch.testing.assert_close(weighting.log_error(alpha, sigma), error.log(), rtol=0, atol=0.1)
    # Where u is the log error, every level pushes the network alike: error exp(-u) is 1.
    pushed = error * (-weighting.log_error(alpha, sigma)).exp()
    assert float((pushed - 1).detach().abs().max()) < 0.1


def test_the_uncertainty_is_finite_at_pure_noise_and_equal_in_every_process():
    weighting, same = Uncertainty(), Uncertainty()
    assert torch.equal(weighting.frequency, same.frequency)
    with torch.no_grad():
        weighting.gain.normal_()
    ends = weighting.log_error(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1e-12]))
    assert ends.isfinite().all()


def test_a_learned_weighting_is_trained_and_saved_with_the_objective():
    objective = VelocityPrediction(process=Flow(), timesteps=Uniform(), weighting=Uncertainty(channels=4))
    assert {key for key, _ in objective.named_parameters()} == {"weighting.gain", "weighting.bias"}
    assert {"weighting.gain", "weighting.bias"} <= objective.state_dict().keys()
    objective.loss(lambda x, t, y: x, torch.randn(8, 1, 2, 2), None).mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())


@pytest.mark.parametrize(
    ("make", "keys", "text"),
    [
        (MinSNR, {"gamma": 0.0}, r"weighting.gamma=0.0 must be above 0"),
        (EDMWeighting, {"sigma_data": 0.0}, r"weighting.sigma_data=0.0 must be above 0"),
        (P2, {"k": 0.0}, r"weighting.k=0.0 above 0"),
        (P2, {"gamma": -1.0}, r"weighting.gamma=-1.0 must be 0 or more"),
        (Uncertainty, {"channels": 0}, r"weighting.channels=0 must be at least 1"),
    ],
)
def test_what_is_no_weight_is_refused_by_its_key(make, keys, text):
    with pytest.raises(ValueError, match=text):
        make(**keys)

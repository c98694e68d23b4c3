"""Classifier guidance with the exact classifier of a mixture."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from oracle import Mixture, network

from dit_exp.guidance.autoguidance import AutoGuidance
from dit_exp.guidance.classifier import ClassifierGuidance
from dit_exp.objective.v import VelocityPrediction
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.sampler.denoise import Denoise, NetworkDenoiser
from dit_exp.timesteps.uniform import Uniform

MEANS = torch.tensor([[-1.0, 0.2], [1.0, 0.5], [0.3, -0.8]], dtype=torch.float64).reshape(3, 1, 1, 2)
WEIGHTS = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
LABEL = torch.tensor([0, 1, 2, 0, 1])


def parts(process):
    """The mixture, its network without labels, and its exact classifier."""
    oracle = Mixture(process, MEANS, WEIGHTS)
    objective = VelocityPrediction(process, Uniform())

    def unlabelled(x, t, label):
        return network(oracle, objective)(x, t, None)

    def logits(x, t, label):
        return oracle.posterior(x, t).log() + 3  # whatever is added to all

    return oracle, objective, unlabelled, SimpleNamespace(network=logits, classifies=True)


@pytest.mark.parametrize("process", [Flow(), Linear(), EDM()])
@torch.no_grad()
def test_scale_1_turns_the_unlabelled_answer_into_the_labelled_one(process):
    oracle, objective, unlabelled, classifier = parts(process)
    t = torch.tensor([0.05, 0.3, 0.6, 0.9, 1.0], dtype=torch.float64)
    x = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    said = Denoise(unlabelled, objective, ClassifierGuidance(None, classifier), LABEL, None)(x, t)
    inner = slice(0, 4 if float(process.coefficients(t)[0][-1]) == 0 else 5)
    torch.testing.assert_close(said.x0[inner], oracle(x, t, LABEL)[inner], rtol=1e-6, atol=1e-6)
    alpha, sigma = (v[:, None, None, None] for v in process.coefficients(t))
    torch.testing.assert_close(alpha * said.x0 + sigma * said.noise, x)


def test_at_pure_noise_nothing_is_changed():
    oracle, objective, unlabelled, classifier = parts(Flow())
    x, t = torch.ones(5, 1, 1, 2, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    said = Denoise(unlabelled, objective, ClassifierGuidance(None, classifier, 9.0), LABEL, None)(x, t)
    torch.testing.assert_close(said.x0, oracle(x, t))
    assert said.noise.isfinite().all()


def test_the_scale_multiplies_the_change():
    _, objective, unlabelled, classifier = parts(Flow())
    x, t = torch.ones(5, 1, 1, 2, dtype=torch.float64), torch.full((5,), 0.5, dtype=torch.float64)

    def x0(scale):
        return Denoise(unlabelled, objective, ClassifierGuidance(None, classifier, scale), LABEL, None)(
            x, t
        ).x0

    torch.testing.assert_close(x0(3.0) - x0(0.0), 3 * (x0(1.0) - x0(0.0)))


def test_the_two_kinds_of_second_networks_are_told_apart():
    _, objective, unlabelled, classifier = parts(Flow())
    with pytest.raises(ValueError, match=r"holds no classifier. Pass a run of task=classifier"):
        ClassifierGuidance(None, NetworkDenoiser(unlabelled, objective))
    with pytest.raises(ValueError, match=r"holds a classifier.*use guidance=classifier"):
        AutoGuidance(None, classifier)

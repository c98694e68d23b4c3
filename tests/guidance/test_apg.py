"""Adaptive projected guidance against its formulas."""

from __future__ import annotations

import pytest
import torch
from echo import NULL, Echo

from dit_exp.guidance.apg import AdaptiveProjectedGuidance, projected
from dit_exp.guidance.cfg import ClassifierFreeGuidance
from dit_exp.types.diffusion import Denoised

X = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
T, LABEL = torch.tensor([0.5, 0.7]), torch.tensor([0, 1])
BETTER = torch.tensor([[3.0, 0, 4, 0], [0, 2, 0, 0]]).reshape(2, 1, 2, 2)
WORSE = torch.tensor([[1.0, 1, 2, 3], [1, 0, 1, 0]]).reshape(2, 1, 2, 2)


class Two(Echo):
    """BETTER for the labels and WORSE for the null label."""

    def __call__(self, x, t, label):
        x0 = torch.where(
            (label == NULL)[:, None, None, None], WORSE.repeat(2, 1, 1, 1), BETTER.repeat(2, 1, 1, 1)
        )
        x0 = x0 if len(x) == 4 else BETTER
        alpha, sigma = (1 - t)[:, None, None, None], t[:, None, None, None]
        return Denoised(x0, (x - alpha * x0) / sigma)


def guided(**keys) -> torch.Tensor:
    return AdaptiveProjectedGuidance(NULL, **keys)(Two(), X, T, LABEL).x0


def test_without_its_three_parts_it_is_classifier_free_guidance():
    plain = ClassifierFreeGuidance(NULL, scale=3.0)(Two(), X, T, LABEL).x0
    torch.testing.assert_close(guided(scale=3.0, eta=1.0, threshold=None, momentum=0.0), plain)


def test_eta_0_keeps_what_is_orthogonal_to_the_labelled_image():
    change = guided(scale=2.0, eta=0.0, threshold=None, momentum=0.0) - BETTER
    assert (change * BETTER).sum((1, 2, 3)).abs().max() < 1e-5
    whole = BETTER - WORSE
    torch.testing.assert_close(change, whole - projected(whole, BETTER))
    assert change.abs().max() > 0.5


def test_the_change_is_shortened_to_the_threshold():
    change = guided(scale=2.0, eta=1.0, threshold=0.5, momentum=0.0) - BETTER
    torch.testing.assert_close(change.flatten(1).norm(dim=1), torch.tensor([0.5, 0.5]))
    free = guided(scale=2.0, eta=1.0, threshold=100.0, momentum=0.0) - BETTER
    torch.testing.assert_close(free, BETTER - WORSE)


def test_momentum_adds_the_change_before_and_no_trajectory_hears_of_another():
    guidance = AdaptiveProjectedGuidance(NULL, scale=2.0, eta=1.0, threshold=None, momentum=-0.5)
    first, second = guidance.begin(), guidance.begin()
    change = BETTER - WORSE
    for factor in (1, 0.5, 0.75):
        torch.testing.assert_close(first(Two(), X, T, LABEL).x0 - BETTER, factor * change)
    torch.testing.assert_close(second(Two(), X, T, LABEL).x0 - BETTER, change)
    torch.testing.assert_close(guidance.begin()(Two(), X, T, LABEL).x0 - BETTER, change)
    assert guidance.before is None


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"guidance.threshold=0 must be above 0, or null"):
        AdaptiveProjectedGuidance(NULL, threshold=0)
    with pytest.raises(ValueError, match=r"guidance.momentum=1 must lie between -1 and 1"):
        AdaptiveProjectedGuidance(NULL, momentum=1)

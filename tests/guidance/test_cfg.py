"""Classifier-free guidance against its formula."""

from __future__ import annotations

import pytest
import torch

from dit_exp.guidance.cfg import ClassifierFreeGuidance

LABEL, T, X = torch.tensor([2, 5]), torch.tensor([0.5, 0.5]), torch.zeros(2, 4, 2, 2)
NULL = 10


class Echo:
    """Answers every pixel with its label, and keeps what it was given."""

    def __init__(self, outputs: int = 4) -> None:
        self.calls, self.outputs = [], outputs

    def __call__(self, x, t, label):
        self.calls.append((x, t, label))
        return label.float()[:, None, None, None].expand(-1, self.outputs, 2, 2)


def test_scale_2_goes_as_far_beyond_the_label_as_the_null_is_before_it():
    out = ClassifierFreeGuidance(NULL, scale=2.0)(Echo(), X, T, LABEL)
    assert out[:, 0, 0, 0].tolist() == [10 + 2 * (2 - 10), 10 + 2 * (5 - 10)]


def test_scale_1_is_the_label_alone_and_costs_one_pass():
    network = Echo()
    out = ClassifierFreeGuidance(NULL, scale=1.0)(network, X, T, LABEL)
    assert out[:, 0, 0, 0].tolist() == [2, 5]
    assert [len(call[0]) for call in network.calls] == [2]


def test_scale_0_is_the_null_label_alone():
    assert ClassifierFreeGuidance(NULL, scale=0.0)(Echo(), X, T, LABEL).unique().tolist() == [NULL]


def test_only_the_chosen_channels_are_guided():
    out = ClassifierFreeGuidance(NULL, scale=2.0, channels=3)(Echo(), X, T, LABEL)
    assert out[0, :, 0, 0].tolist() == [-6, -6, -6, 2]


def test_a_learned_variance_stays_as_the_label_predicts_it():
    out = ClassifierFreeGuidance(NULL, scale=2.0)(Echo(outputs=8), X, T, LABEL)
    assert out[0, :, 0, 0].tolist() == [-6] * 4 + [2] * 4


@pytest.mark.parametrize(("t", "passes"), [(0.29, 2), (0.3, 4), (0.7, 4), (0.71, 2)])
def test_outside_the_interval_the_null_pass_is_not_computed(t: float, passes: int):
    network = Echo()
    at = torch.full((2,), t, dtype=torch.float64)
    ClassifierFreeGuidance(NULL, scale=2.0, interval=(0.3, 0.7))(network, X, at, LABEL)
    assert sum(len(call[0]) for call in network.calls) == passes


def test_both_halves_see_the_same_input():
    network = Echo()
    ClassifierFreeGuidance(NULL, scale=3.0)(network, torch.randn(2, 4, 2, 2), T, LABEL)
    [(x, t, label)] = network.calls
    assert torch.equal(x[:2], x[2:])
    assert torch.equal(t[:2], t[2:])
    assert label.tolist() == [2, 5, NULL, NULL]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"guidance=cfg needs a model with a null label.*class_dropout=0.1"):
        ClassifierFreeGuidance(None)
    with pytest.raises(ValueError, match=r"guidance.interval=\[0.7, 0.3\]"):
        ClassifierFreeGuidance(NULL, interval=(0.7, 0.3))
    with pytest.raises(ValueError, match=r"guidance.channels=first must be all or a number"):
        ClassifierFreeGuidance(NULL, channels="first")

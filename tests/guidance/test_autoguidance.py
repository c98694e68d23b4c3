"""Guidance by a weaker network."""

from __future__ import annotations

from echo import LABEL, Echo, T, X

from dit_exp.guidance.autoguidance import AutoGuidance


def test_it_goes_from_the_weak_answer_through_the_strong_one():
    strong, weak = Echo(), Echo(offset=3.0)
    said = AutoGuidance(None, weak, scale=2.0)(strong, X, T, LABEL)
    assert said.x0[:, 0, 0, 0].tolist() == [2 - 3, 5 - 3]
    for denoise in (strong, weak):
        [(x, t, label)] = denoise.calls
        assert x is X
        assert t is T
        assert label is LABEL


def test_scale_1_does_not_ask_the_weak_network():
    weak = Echo(offset=3.0)
    assert AutoGuidance(None, weak, scale=1.0)(Echo(), X, T, LABEL).x0[:, 0, 0, 0].tolist() == [2, 5]
    assert weak.calls == []

"""Learning-rate schedules at points where they are known exactly."""

from __future__ import annotations

import math

import pytest

from dit_exp.lr_schedule.constant import Constant
from dit_exp.lr_schedule.cosine import Cosine
from dit_exp.lr_schedule.wsd import WarmupStableDecay


def test_constant_is_one_throughout():
    assert [Constant()(spent) for spent in (0.0, 0.5, 1.0)] == [1, 1, 1]


def test_cosine_falls_from_one_through_the_middle_to_its_end():
    assert [Cosine()(spent) for spent in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [Cosine(0.2)(spent) for spent in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.6, 0.2])
    assert Cosine()(0.3) + Cosine()(0.7) == pytest.approx(1)
    assert Cosine()(0.1) == pytest.approx(math.cos(0.05 * math.pi) ** 2)


def test_wsd_stays_until_the_last_share_and_then_falls_by_a_line():
    schedule = WarmupStableDecay(decay=0.25)
    assert [schedule(spent) for spent in (0.0, 0.4, 0.75)] == [1, 1, 1]
    assert [schedule(spent) for spent in (0.8, 0.875, 0.95, 1.0)] == pytest.approx([0.8, 0.5, 0.2, 0])
    assert WarmupStableDecay(decay=1.0, final=0.1)(0.5) == pytest.approx(0.55)


@pytest.mark.parametrize("schedule", [Cosine(0.1), WarmupStableDecay(0.5, 0.1)])
def test_a_budget_that_is_overdrawn_keeps_the_last_rate(schedule):
    assert schedule(1.01) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Cosine(1.5), r"lr_schedule.final=1.5 must be in \[0, 1\]"),
        (lambda: WarmupStableDecay(0.0), r"lr_schedule.decay=0.0 must be in \(0, 1\]"),
        (lambda: WarmupStableDecay(0.5, -1.0), r"lr_schedule.final=-1.0 in \[0, 1\]"),
    ],
)
def test_impossible_shares_are_refused(build, text: str):
    with pytest.raises(ValueError, match=text):
        build()

"""Intervals, effects and fronts against scipy and against numbers worked out by hand."""

from __future__ import annotations

import itertools
import random

import pytest
from scipy import stats

from dit_exp.report.statistics import Estimate, Observation, band, effect, estimate, pareto


def test_an_interval_is_the_mean_and_students_t_times_the_standard_error():
    found = estimate([1.0, 2.0, 3.0])
    # s = 1, n = 3, t(0.975, 2) = 4.302653
    assert found == Estimate(
        2.0, pytest.approx(2 - 4.302653 / 3**0.5), pytest.approx(2 + 4.302653 / 3**0.5), 3
    )


def test_an_interval_is_scipys():
    draw = random.Random(0)
    values = [draw.gauss(40, 3) for _ in range(7)]
    low, high = stats.t.interval(0.95, 6, loc=sum(values) / 7, scale=stats.sem(values))
    found = estimate(values)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))


def test_one_value_gives_no_interval_and_none_no_mean():
    assert estimate([41.5]) == Estimate(41.5, None, None, 1)
    with pytest.raises(ValueError, match="needs a value"):
        estimate([])


def test_intervals_that_touch_overlap_and_a_missing_one_tells_nothing_apart():
    assert Estimate(1, 0, 2, 3).overlaps(Estimate(3, 2, 4, 3))
    assert not Estimate(1, 0, 2, 3).overlaps(Estimate(3, 2.1, 4, 3))
    assert Estimate(1, None, None, 1).overlaps(Estimate(100, 99, 101, 3))


def observed(values):
    """{(factor, other, seed): value} -> observations of the first."""
    return [Observation(a, (("other", b), ("seed", s)), value) for (a, b, s), value in values.items()]


def test_a_main_effect_is_the_paired_difference_of_a_t_test():
    draw = random.Random(1)
    blocks = list(itertools.product("xy", "012"))
    values = {
        (a, b, s): draw.gauss(40 - 3 * (a == "token"), 1) for a in ("adaln", "token") for b, s in blocks
    }
    found = effect(observed(values), ["adaln", "token"])
    a, b = ([values[name, *block] for block in blocks] for name in ("adaln", "token"))
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    baseline, token = found.levels
    assert baseline.difference is None
    assert token.difference is not None
    assert (token.difference.low, token.difference.high) == pytest.approx((expected.low, expected.high))
    assert token.mean.mean - baseline.mean.mean == pytest.approx(token.difference.mean)
    assert found.complete == token.difference.count == 6


def test_a_block_that_lacks_a_value_counts_for_none():
    # Block 2 has no token and would shift adaln's mean by 30; what is left is balanced.
    values = {("adaln", "x", "0"): 10.0, ("adaln", "x", "1"): 12.0, ("adaln", "x", "2"): 101.0}
    values |= {("token", "x", "0"): 7.0, ("token", "x", "1"): 10.0}
    found = effect(observed(values), ["adaln", "token"])
    adaln, token = found.levels
    assert adaln.mean.mean == 11.0
    assert token.mean.mean == 8.5
    assert token.difference is not None
    assert token.difference.mean == -2.5
    # differences -3 and -2: s = 0.70711, t(0.975, 1) = 12.7062
    assert token.difference.high == pytest.approx(-2.5 + 12.7062 * 0.5, abs=1e-4)
    assert found.complete == 2


def test_without_a_complete_block_there_are_means_and_no_difference():
    found = effect(observed({("adaln", "x", "0"): 10.0, ("token", "x", "1"): 7.0}), ["adaln", "token"])
    assert [(level.mean.mean, level.difference) for level in found.levels] == [(10.0, None), (7.0, None)]
    assert found.complete == 0


def test_a_value_that_no_finished_cell_has_is_left_out_and_the_next_is_the_baseline():
    values = {("b", "x", "0"): 1.0, ("c", "x", "0"): 4.0}
    levels = effect(observed(values), ["a", "b", "c"]).levels
    assert [level.name for level in levels] == ["b", "c"]
    assert levels[1].difference == Estimate(3.0, None, None, 1)


def test_the_front_holds_what_nothing_beats():
    points = [(1.0, 50.0), (2.0, 40.0), (3.0, 45.0), (4.0, 30.0), (4.0, 35.0)]
    assert pareto(points, -1) == [True, True, False, True, False]
    assert pareto(points, 1) == [True, False, False, False, False]
    assert pareto([(1.0, 5.0), (1.0, 5.0)], -1) == [True, True]


def test_a_band_is_where_all_curves_have_a_value():
    found = band([{1: 2.0, 2: 4.0, 3: 9.0}, {2: 6.0, 1: 2.0}])
    assert [(x, e.mean, e.count) for x, e in found] == [(1, 2.0, 2), (2, 5.0, 2)]
    assert found[1][1] == estimate([4.0, 6.0])
    assert band([]) == []

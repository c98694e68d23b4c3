"""Parabolas with known minima, and the power laws through them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dit_exp.scaling.isoflop import Sizes, parabola, parabolas, power_law, sizes
from dit_exp.scaling.points import Point

SIZES = (1e5, 3e5, 1e6, 2e6, 8e6)


def bowl(
    compute: float, best: float, least: float = 0.3, curvature: float = 0.01, tried=SIZES
) -> list[Point]:
    return [
        Point(i, compute, float(least + curvature * np.log(n / best) ** 2), round(n), n / 1e6)
        for i, n in enumerate(tried)
    ]


def test_the_minimum_of_a_parabola_is_found_exactly():
    found = parabola(bowl(1e15, best=7e5))
    assert found.parameters == pytest.approx(7e5, rel=1e-6)
    assert found.loss == pytest.approx(0.3, rel=1e-9)
    assert found.curvature == pytest.approx(0.01, rel=1e-6)
    assert found([7e5 * np.e])[0] == pytest.approx(0.31)
    assert found.range == pytest.approx((3e5, 8e6))


@pytest.mark.parametrize(
    ("best", "reason"),
    [
        (5e4, "the smallest size tried is the best, so try smaller ones"),
        (2e7, "the largest size tried is the best, so try larger ones"),
    ],
)
def test_a_best_size_without_neighbours_on_both_sides_is_no_minimum(best: float, reason: str):
    found = parabola(bowl(1e15, best))
    assert found.parameters is None
    assert found.reason == reason


def test_sizes_far_from_the_best_do_not_pull_the_minimum_aside():
    points = bowl(1e15, best=1e6, tried=(3e5, 1e6, 3e6, 3e7))
    points[-1] = dataclasses.replace(points[-1], loss=9.0)
    assert parabola(points).parameters == pytest.approx(1e6, rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ((0.30, 0.40, 0.29, 0.40, 0.30), "the losses bend the other way: noise, or sizes too close"),
        ((1.00, 0.80, 0.50, 0.30, 0.301), "the minimum lies beyond the sizes tried"),
    ],
)
def test_losses_that_are_no_bowl_have_no_minimum(losses, reason: str):
    tried = [1e6 * 1.6**i for i in range(5)]
    points = [
        Point(i, 1e15, loss, round(n), 1.0) for i, (n, loss) in enumerate(zip(tried, losses, strict=True))
    ]
    found = parabola(points)
    assert found.parameters is None
    assert found.reason == reason


def test_a_budget_needs_three_sizes():
    points = bowl(1e15, 5e5) + bowl(1e16, 1e6, tried=SIZES[:2]) + bowl(1e17, 2e6, tried=SIZES[:3])
    assert [round(np.log10(one.compute)) for one in parabolas(points)] == [15, 17]
    twice = bowl(1e16, 1e6, tried=(1e5, 1e6)) + bowl(1e16, 1e6, tried=(1e5, 1e6))
    assert parabolas(twice) == []  # four points, and two sizes


def test_the_power_law_of_the_minima_is_the_one_they_were_made_by():
    computes = (1e14, 1e15, 1e16)
    points = [p for c in computes for p in bowl(c, best=1e6 * (c / 1e15) ** 0.46)]
    found = parabolas(points)
    law = power_law([one.compute for one in found], [one.parameters for one in found])
    assert law.exponent == pytest.approx(0.46, rel=1e-6)
    assert law(1e15) == pytest.approx(1e6, rel=1e-6)
    assert power_law([1e15], [1e6]) is None


def test_cost_is_interpolated_and_goes_on_with_the_nearest_slope():
    table = Sizes(np.array([1e4, 1e6, 1e7]), np.array([1.0, 10.0, 100.0]))
    assert table.gmac_of(1e5) == pytest.approx(np.sqrt(10))
    assert table.gmac_of(1e8) == pytest.approx(1000)
    assert table.gmac_of(1e2) == pytest.approx(0.1)
    assert table.images(6e11, 1e7) == pytest.approx(1.0)
    assert Sizes(np.array([1e6]), np.array([2.0])).gmac_of(3e6) == pytest.approx(6.0)


def test_the_table_of_sizes_has_each_once():
    assert sizes(bowl(1e15, 1e6) + bowl(1e16, 1e6)).parameters.tolist() == list(SIZES)

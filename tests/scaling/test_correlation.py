"""Scores are correlated with cost only where they are comparable."""

from __future__ import annotations

import numpy as np
import pytest

from dit_exp.scaling.correlation import correlations
from dit_exp.scaling.points import Run


def run(cell: int, gmac: float, fid: float, images: int = 100, **protocol) -> Run:
    return Run(cell, gmac, images, 1.0, 1, scores={"fid": fid}, protocol={"n": 50_000} | protocol)


def test_a_score_that_falls_with_the_logarithm_of_cost_is_correlated_by_minus_one():
    [found] = correlations([run(i, 10.0**i, 60 - 10 * i, step=i, seed=i) for i in range(4)])
    assert (found.score, found.runs, found.images) == ("fid", 4, 100)
    assert found.r == pytest.approx(-1)


def test_the_coefficient_is_pearsons():
    costs, scores = np.array([1.0, 2.0, 8.0, 30.0]), np.array([9.0, 9.5, 4.0, 5.0])
    [found] = correlations([run(i, c, s) for i, (c, s) in enumerate(zip(costs, scores, strict=True))])
    x, y = np.log(costs) - np.log(costs).mean(), scores - scores.mean()
    assert found.r == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)))


def test_other_protocols_and_other_lengths_of_training_are_not_mixed_in():
    runs = [run(i, 10.0**i, 60 - 10 * i) for i in range(4)]
    runs += [run(8, 1e5, 500.0, n=300), run(9, 1e5, 500.0, images=200)]
    [found] = correlations(runs)
    assert found.runs == 4
    assert found.r == pytest.approx(-1)


def test_two_costs_say_nothing():
    assert correlations([run(0, 1.0, 3.0), run(1, 2.0, 2.0), run(2, 2.0, 1.0)]) == []

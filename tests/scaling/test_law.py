"""The law is found where it is known, an outlier does not move it, and its error is what hands compute."""

from __future__ import annotations

import numpy as np
import pytest

from dit_exp.scaling.law import Law, bootstrap, fit, fit_points, interval, leave_one_out
from dit_exp.scaling.points import Point

TRUE = Law(irreducible=0.12, a=40.0, b=0.18)
COMPUTE = np.geomspace(1e13, 1e17, 9)


def points(loss, compute=COMPUTE) -> list[Point]:
    return [Point(i, c, x, 1, 1.0) for i, (c, x) in enumerate(zip(compute, loss, strict=True))]


@pytest.mark.parametrize(
    "law",
    [TRUE, Law(0.3, 1e3, 0.25), Law(0.03, 2.0, 0.07), Law(0.1, 1e6, 0.45), Law(2.0, 5e12, 1.0)],
    ids=str,
)
def test_a_law_without_noise_is_found_exactly(law: Law):
    found = fit(COMPUTE, law(COMPUTE))
    assert (found.irreducible, found.a, found.b) == pytest.approx((law.irreducible, law.a, law.b), rel=1e-6)


def test_a_plain_power_law_has_no_irreducible_loss():
    found = fit(COMPUTE, 40.0 * COMPUTE**-0.18)
    assert found.irreducible < 1e-4 * found(COMPUTE).min()
    assert found.b == pytest.approx(0.18, rel=1e-3)


def test_the_true_parameters_lie_in_the_intervals_under_noise():
    compute = np.repeat(COMPUTE, 3)
    noisy = TRUE(compute) * np.exp(0.005 * np.random.default_rng(1).standard_normal(len(compute)))
    found = points(noisy, compute)
    law = fit_points(found, 1e-3)
    laws = bootstrap(found, law, 1e-3, resamples=200, seed=0)
    for name in ("irreducible", "a", "b"):
        low, high = interval([getattr(one, name) for one in laws])
        assert low < getattr(TRUE, name) < high
        assert low < getattr(law, name) < high
        assert high - low > 0.02 * getattr(TRUE, name)  # the noise is in them
    low, high = interval([one.b for one in laws])
    assert high - low < 0.5 * TRUE.b


def test_one_outlier_moves_least_squares_and_not_the_huber_loss():
    loss = TRUE(COMPUTE)
    loss[3] *= 1.5
    assert fit(COMPUTE, loss).b == pytest.approx(TRUE.b, rel=0.02)
    assert fit(COMPUTE, loss).irreducible == pytest.approx(TRUE.irreducible, rel=0.02)
    squares = fit(COMPUTE, loss, delta=1e3)
    assert abs(squares.b / TRUE.b - 1) > 0.3
    assert abs(squares.irreducible / TRUE.irreducible - 1) > 0.3


def test_the_bootstrap_repeats_with_its_seed_and_not_with_another():
    noisy = TRUE(COMPUTE) * np.exp(0.01 * np.random.default_rng(0).standard_normal(len(COMPUTE)))
    found, start = points(noisy), TRUE
    one, same, other = (bootstrap(found, start, 1e-3, 5, seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_a_cell_brings_all_its_points_to_a_resample():
    three = [Point(i // 3, c, x, 1, 1.0) for i, (c, x) in enumerate(zip(COMPUTE, TRUE(COMPUTE), strict=True))]
    assert (
        len(bootstrap(three, TRUE, 1e-3, 10, 0)) == 10
    )  # also where one cell is drawn thrice: three budgets
    two = [Point(i % 2, c, x, 1, 1.0) for i, (c, x) in enumerate(zip(COMPUTE, TRUE(COMPUTE), strict=True))]
    assert bootstrap(two, TRUE, 1e-3, 10, 0) == []


def test_leave_one_out_is_the_error_of_the_law_through_the_other_three():
    # 1 + 2 C^-b with 10^-b = 1/2 is 3, 2, 1.5 at 1, 10, 100, and 1.25 at 1000, where the run has 1.35.
    compute, loss = np.array([1.0, 10.0, 100.0, 1000.0]), np.array([3.0, 2.0, 1.5, 1.35])
    errors = leave_one_out(points(loss, compute), 1e-3)
    assert errors[3] == pytest.approx((1.35 - 1.25) / 1.35, rel=1e-5)
    # Through 2, 1.5, 1.35: the ratio of the differences is 0.15 / 0.5 = 0.3, so the first is 2 + 0.5 / 0.3.
    assert errors[0] == pytest.approx((2 + 0.5 / 0.3 - 3.0) / 3.0, rel=1e-5)


def test_leave_one_out_needs_three_budgets_without_the_cell():
    compute = np.array([1.0, 1.01, 10.0, 100.0])
    assert leave_one_out(points(TRUE(compute), compute), 1e-3).keys() == {0, 1}

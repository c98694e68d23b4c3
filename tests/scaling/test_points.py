"""Compute is counted as papers do, a budget's best setting is taken, and too little is refused."""

from __future__ import annotations

import numpy as np
import pytest

from dit_exp.errors import UserError
from dit_exp.scaling.points import Point, Run, budgets, check, ends, frontier, slices, training_flop


def point(cell: int, compute: float, loss: float, setting: str = "") -> Point:
    return Point(cell, compute, loss, 1, 1.0, setting or f"c{cell}")


def test_training_takes_six_operations_a_multiply_add_and_image():
    assert training_flop(118.64, 7e6 * 256) == pytest.approx(
        1.2756e21, rel=1e-4
    )  # DiT-XL/2, 7 M steps of 256
    assert Run(0, gmac=2.0, images=10, loss=1.0, parameters=1).compute == 1.2e11


def test_runs_within_ten_per_cent_share_a_budget():
    groups = budgets([point(i, c, 1.0) for i, c in enumerate((1.0, 10.0, 1.05, 1.09, 1.12, 10.9))])
    assert [[p.compute for p in group] for group in groups] == [[1.0, 1.05, 1.09], [1.12], [10.0, 10.9]]


def test_the_best_setting_of_a_budget_is_taken_with_all_its_seeds():
    found = [
        point(0, 1.0, 3.0, "small"),
        point(1, 1.0, 3.2, "small"),
        point(2, 1.0, 2.9, "large"),  # the lowest, by luck
        point(3, 1.0, 3.6, "large"),
        point(4, 10.0, 2.0, "large"),
    ]
    assert [p.cell for p in frontier(found)] == [0, 1, 4]


def test_curves_are_read_between_their_rows_in_logarithms():
    # Losses on a power law, so that the interpolation is exact: loss = images^-0.5.
    def run(cell, gmac, images):
        return Run(cell, gmac, images[-1], 1.0, cell + 1, curve=tuple((i, i**-0.5) for i in images))

    small, large = run(0, 1.0, (100, 400, 1600)), run(1, 4.0, (100, 400, 1600))
    found = slices([small, large], 5)
    computes = np.geomspace(training_flop(4.0, 100), training_flop(1.0, 1600), 5)  # where both reach
    assert sorted({p.compute for p in found}) == pytest.approx(computes)
    assert [len(group) for group in budgets(found)] == [2] * 5
    for p in found:
        assert p.loss == pytest.approx((p.compute / training_flop(p.gmac, 1)) ** -0.5)


def test_budgets_are_read_where_three_sizes_reach():
    runs = [
        Run(i, 4.0**i, 6400, 1.0, i + 1, curve=tuple((n, 1 / n) for n in (100, 800, 6400))) for i in range(4)
    ]
    groups = budgets(slices(runs, 9))
    assert groups[0][0].compute == pytest.approx(training_flop(16.0, 100))
    assert groups[-1][0].compute == pytest.approx(training_flop(4.0, 6400))
    assert {p.cell for p in groups[0]} == {0, 1, 2}
    assert {p.cell for p in groups[-1]} == {1, 2, 3}


def test_curves_that_never_meet_are_refused():
    runs = [Run(i, 100.0**i, 400, 1.0, i + 1, curve=((100, 1.0), (400, 0.5))) for i in range(3)]
    with pytest.raises(
        UserError, match=r"no budget in common that three sizes reach.*lower task.score_every"
    ):
        slices(runs, 5)


def test_sweeps_without_curves_are_told_what_to_train_with():
    with pytest.raises(
        UserError, match=r"no run of the sweep has one .*task.slices=0.*task.score_every=STEPS"
    ):
        slices([Run(0, 1.0, 10, 1.0, 1)], 4)


def test_fewer_than_four_budgets_are_refused():
    with pytest.raises(
        UserError, match=r"needs 4 or more budgets of compute.* here are 3 \(runs within 10 %"
    ):
        check([point(i, c, 1.0) for i, c in enumerate((1.0, 1.02, 10.0, 100.0))])
    check([point(i, c, 1.0) for i, c in enumerate((1.0, 2.0, 5.0, 10.0))])


def test_less_than_a_decade_is_refused():
    with pytest.raises(
        UserError, match=r"needs a decade of compute.*a factor of 9\.0 \(1e\+15 to 9e\+15 FLOP\)"
    ):
        check([point(i, c * 1e15, 1.0) for i, c in enumerate((1.0, 2.0, 4.0, 9.0))])


def test_a_run_ends_where_its_images_say():
    [only] = ends([Run(3, gmac=0.5, images=100, loss=0.4, parameters=7, setting="a=1")])
    assert only == Point(3, 3e11, 0.4, 7, 0.5, "a=1")

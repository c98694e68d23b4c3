"""The arithmetic of comparisons, on times that are known."""

from __future__ import annotations

import statistics

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import paired
from benchmarks.paired import Quartiles, Row, Setting, compared, interleaved, markdown, ratios, shares
from benchmarks.rows.growth import exponent
from benchmarks.rows.memory import Smaller
from dit_exp.errors import UserError

CPU = torch.device("cpu")


def test_jobs_are_interleaved_with_the_order_turned_and_the_first_round_thrown_away():
    order: list[str] = []
    jobs = {name: lambda name=name: order.append(name) for name in "abc"}
    times = interleaved(jobs, Setting(CPU, rounds=3))
    assert "".join(order) == "cba" + "abc" + "cba" + "abc"
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_taken_within_a_round_so_that_a_slow_round_slows_both(monkeypatch: pytest.MonkeyPatch):
    """A machine that is ten times slower in every other round; the peer takes three times as long."""
    slow, taken = iter([10, 10, 1, 1] * 20), {"ours": 1.0, "peer": 3.0}
    monkeypatch.setattr(paired, "seconds", lambda job, device: taken[job] * next(slow))
    times = interleaved({name: name for name in taken}, Setting(CPU, rounds=11))  # type: ignore[arg-type]
    assert ratios(times["peer"], times["ours"]) == pytest.approx((3, 3, 3))
    row = compared(times, "ours", "peer", "x", "y", reach=2.5)
    assert row.value.middle == pytest.approx(3)
    assert row.ours_seconds == statistics.median(times["ours"])


@pytest.mark.parametrize(
    ("value", "verdict"),
    [((1.2, 1.3, 1.4), "reached"), ((1.0, 1.1, 1.2), "reached"), ((0.9, 1.0, 1.1), "falls short")],
)
def test_a_row_falls_short_only_if_its_upper_quartile_does(value: tuple[float, ...], verdict: str):
    assert Row("a", "b", "c", None, None, Quartiles(*value), reach=1.15).verdict == verdict


def test_where_less_is_better_the_lower_quartile_decides():
    assert Smaller("a", "b", "c", None, None, Quartiles(0.5, 0.6, 0.7), reach=0.54).verdict == "reached"
    assert Smaller("a", "b", "c", None, None, Quartiles(0.6, 0.6, 0.6), reach=0.54).verdict == "falls short"


def test_a_share_of_the_peak_is_operations_a_second_over_those_of_the_peak_in_the_same_round():
    # 10 operations in 2 s and 4 s; the peak 100 operations in 10 s and 40 s
    assert shares([2.0, 4.0], 10, [10.0, 40.0], 100) == pytest.approx((0.625, 0.75, 0.875))
    assert shares([2.0], 10, [10.0], 100) == (0.5, 0.5, 0.5)


def test_the_peak_is_the_faster_product_of_each_round():
    assert paired.fastest([[3.0, 1.0, 5.0], [2.0, 4.0, 5.0]]) == [2.0, 1.0, 5.0]


def test_both_products_of_the_peak_are_the_same_product():
    laid_out = paired.laid_out_matmul("fp32", CPU, 64)
    if laid_out is None:
        pytest.skip("torch has no oneDNN here")
    torch.testing.assert_close(laid_out(), paired.matmul("fp32", CPU, 64)(), rtol=1e-4, atol=1e-4)


def test_a_power_law_has_its_exponent():
    assert exponent([64, 256, 1024], [3 * n**1.5 for n in (64, 256, 1024)]) == pytest.approx(1.5)


def test_the_table_is_markdown_with_times_in_milliseconds():
    rows = [
        Row("data", "an epoch", "torchvision", 0.5, 6.0, Quartiles(11.5, 12, 12.5), 10.0),
        Row(
            "utilisation",
            "DiT-S/2",
            "a GPU",
            None,
            None,
            Quartiles(*3 * [float("nan")]),
            figure="not measured",
        ),
    ]
    _, _, data, gpu = markdown(rows).splitlines()
    told = "12.00x (11.50x to 12.50x) | 10.00x |"
    assert data == f"| data | an epoch | torchvision | 500.0 | 6,000.0 | {told}  | reached |"
    assert gpu == "| utilisation | DiT-S/2 | a GPU |  |  | not measured |  |  |  |"


def test_the_table_is_put_between_its_marks_and_nowhere_else():
    begin, other = (command.BEGIN.format(device=device) for device in ("cpu", "cuda"))
    gpu = f"{other}\nkept\n{command.END}\n"
    page = f"# Speed\n\n{begin}\nold\n{command.END}\n\nafter\n{gpu}"
    new = command.inserted(page, "new", "cpu")
    assert new == f"# Speed\n\n{begin}\n\nnew\n\n{command.END}\n\nafter\n{gpu}"
    assert command.inserted(new, "new", "cpu") == new
    with pytest.raises(UserError, match="the page needs the lines"):
        command.inserted("# Speed\n", "new", "cpu")

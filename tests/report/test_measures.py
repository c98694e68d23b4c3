from __future__ import annotations

import pytest

from dit_exp.report.measures import difference, direction, figure, signed, written
from dit_exp.report.statistics import Estimate


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "fid": -1, "kid": -1, "fd_dinov2": -1, "kd_efficientnet_lite0": -1, "loss": -1, "validation_loss": -1,
        "is": 1, "is_efficientnet_lite0": 1, "precision": 1, "recall_dinov2": 1, "colourfulness": 0,
        "rfid": -1, "rfd_efficientnet_lite0": -1, "rkd_dinov2": -1, "ris": 1, "psnr": 1, "ssim": 1,
    }.items(),
)  # fmt: skip
def test_which_way_a_measure_is_better(name: str, expected: int):
    assert direction(name) == expected


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(41.2345, 39.8345, 42.6345, 3), "41.2 [39.8, 42.6]"),
        (Estimate(0.41234, 0.37834, 0.44634, 3), "0.412 [0.378, 0.446]"),
        (Estimate(36.4, 14.4, 58.4, 2), "36.4 [14.4, 58.4]"),  # three digits of the mean
        (Estimate(12345.6, 12000.4, 12690.8, 3), "12,346 [12,000, 12,691]"),
        (Estimate(41.2345, None, None, 1), "41.23 (no interval)"),
        (Estimate(5.0, 5.0, 5.0, 3), "5.00 [5.00, 5.00]"),
    ],
)
def test_a_mean_keeps_the_digits_that_its_interval_allows(estimate: Estimate, expected: str):
    assert written(estimate) == expected


def test_a_difference_keeps_two_digits_of_its_interval_and_its_sign():
    assert difference(Estimate(0.321, -2.21, 2.852, 4)) == "0.3 [-2.2, 2.9]"
    assert signed(Estimate(0.321, -2.21, 2.852, 4)) == "+0.3 [-2.2, 2.9]"
    assert signed(Estimate(-6.72, -9.11, -4.33, 4)) == "-6.7 [-9.1, -4.3]"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_284_000, "1.284 M"), (64000, "64,000"), (512.54, "512.5"), (0.125, "0.125"), (2.0, "2"),
        (0.00041239, "0.0004124"), (float("nan"), "nan"), (0.0, "0"), (1000.4, "1,000"),
    ],
)  # fmt: skip
def test_a_figure_has_four_digits_and_no_exponent(value: float, expected: str):
    assert figure(value) == expected

"""The row on encoder reuse is of the fastest way that keeps the score."""

from __future__ import annotations

from benchmarks.encoder_reuse import Way
from benchmarks.rows.reuse import chosen


def way(ratio: float, seconds: list[float], score: float) -> Way:
    return Way(ratio, "planned", None, None, seconds, [0.0], ("fd_toy", score))  # type: ignore[arg-type]


def test_the_fastest_within_three_percent_is_taken_and_one_beyond_is_not():
    found = [
        way(0, [9, 4, 8], 10.0),
        way(0.5, [9, 2, 4], 10.2),
        way(0.8, [9, 1, 2], 10.3),
        way(0.9, [9, 0.5, 1], 10.4),
    ]
    row = chosen(found)
    assert "80% of evaluations, planned, at 10.3" in row.work
    assert row.value == (4.0, 4.0, 4.0)
    assert row.verdict == "reached"


def test_where_none_keeps_the_score_the_row_falls_short():
    row = chosen([way(0, [9, 4], 10.0), way(0.5, [9, 2], 11.0)])
    assert row.work == "1 images of 100 steps: none is within 3 %"
    assert row.verdict == "falls short"

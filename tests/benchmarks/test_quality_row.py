"""The row on sampling to quality is of the fastest sampler that is as good as 250 steps of DDPM."""

from __future__ import annotations

from benchmarks.rows.quality import BASE, chosen_of


def test_the_fastest_within_two_percent_is_taken_and_one_beyond_is_not():
    times = {BASE: [99, 40, 44], "a": [9, 1, 1], "b": [9, 2, 2], "c": [9, 4, 4]}
    row = chosen_of(times, {BASE: 10.0, "a": 10.3, "b": 10.2, "c": 9.0}, "fd_toy, n=3")
    assert row.work == "fd_toy, n=3: b at 10.2"
    assert row.value == (20.5, 21.0, 21.5)
    assert row.verdict == "reached"


def test_where_none_is_as_good_the_row_says_what_was_tried_and_falls_short():
    row = chosen_of({BASE: [9, 4], "a": [9, 1]}, {BASE: 10.0, "a": 11.0}, "fd_toy, n=3")
    assert row.work == "fd_toy, n=3: none of a 11.0"
    assert row.verdict == "falls short"

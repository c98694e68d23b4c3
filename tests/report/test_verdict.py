"""The sentence at the top, on scores whose intervals are known."""

from __future__ import annotations

from pathlib import Path

from sweeping import write_sweep

from dit_exp.report.collect import factors, rows
from dit_exp.report.columns import columns
from dit_exp.report.verdict import verdict


def sentence(
    folder: Path, axes: dict[str, list[str]], scores: dict[tuple[str, ...], float], name="fid"
) -> str:
    sweep = write_sweep(folder, axes, lambda settings: {name: scores[tuple(settings.values())]})
    return verdict(columns(rows(sweep), list(factors(sweep)))[0])


SEEDED = {"cond": ["adaln", "token"], "seed": ["0", "1", "2"]}


def seeded(adaln: tuple[float, ...], token: tuple[float, ...]) -> dict[tuple[str, ...], float]:
    both = {"adaln": adaln, "token": token}
    return {(name, str(i)): value for name, values in both.items() for i, value in enumerate(values)}


def test_a_winner_is_named_with_its_margin_over_the_same_seeds(tmp_path: Path):
    # 39, 40, 41: 40 +- 2.484; 49, 50.5, 51: 50.17 +- 2.586; differences 10, 10.5, 10: 10.17 +- 0.717
    text = sentence(tmp_path, SEEDED, seeded((49, 50.5, 51), (39, 40, 41)))
    assert text == (
        "cond=token wins: its fid, n = 5,000 is 40.0 [37.5, 42.5], 10.17 [9.45, 10.88] lower than that of "
        "cond=adaln, 50.2 [47.6, 52.8]."
    )


def test_where_higher_is_better_the_highest_wins(tmp_path: Path):
    text = sentence(tmp_path, SEEDED, seeded((49, 50.5, 51), (39, 40, 41)), name="is")
    assert text.startswith(
        "cond=adaln wins: its is, n = 5,000 is 50.2 [47.6, 52.8], 10.17 [9.45, 10.88] higher"
    )


def test_a_margin_that_holds_in_every_seed_wins_although_the_intervals_overlap(tmp_path: Path):
    # 42.3 +- 3.79 and 40 +- 2.48 overlap; the differences 2, 2, 3 are 2.33 +- 1.43
    text = sentence(tmp_path, SEEDED, seeded((41, 42, 44), (39, 40, 41)))
    assert text.startswith("cond=token wins: its fid, n = 5,000 is 40.0 [37.5, 42.5], 2.3 [0.9, 3.8] lower")


def test_a_margin_that_may_be_none_leaves_no_clear_winner(tmp_path: Path):
    # differences 5, 2, -1: 2 +- 7.45
    text = sentence(tmp_path, SEEDED, seeded((44, 42, 40), (39, 40, 41)))
    assert text.startswith("No clear winner: cond=token has the lowest fid, n = 5,000, 40.0 [37.5, 42.5], 2")
    assert text.endswith("but by these seeds it may be no better than 1 of 1 others.")


def test_a_third_setting_may_be_the_one_that_is_close(tmp_path: Path):
    scores = seeded((49, 50.5, 51), (39, 40, 41)) | {("film", str(i)): v for i, v in enumerate((30, 55, 90))}
    text = sentence(tmp_path, SEEDED | {"cond": ["adaln", "token", "film"]}, scores)
    assert text.startswith("No clear winner: cond=token")
    assert text.endswith("but by these seeds it may be no better than 1 of 2 others.")


def test_a_single_seed_gives_no_interval_and_so_no_winner(tmp_path: Path):
    text = sentence(tmp_path, {"cond": ["adaln", "token"]}, {("adaln",): 50.0, ("token",): 40.0})
    assert text == (
        "No clear winner, since each setting has a single seed, which gives no interval: cond=token has the "
        "lowest fid, n = 5,000, 40 (no interval), followed by cond=adaln, 50 (no interval)."
    )


def test_one_setting_is_nothing_to_compare(tmp_path: Path):
    text = sentence(tmp_path, {"seed": ["0", "1", "2"]}, {("0",): 39, ("1",): 40, ("2",): 41})
    assert text == "Nothing to compare: fid, n = 5,000 is 40.0 [37.5, 42.5] for all cells (seeds: 3)."


def test_a_score_of_an_unknown_kind_ranks_nothing(tmp_path: Path):
    text = sentence(tmp_path, SEEDED, seeded((49, 50.5, 51), (39, 40, 41)), name="colourfulness")
    assert text == "No winner: it is not known whether a higher or a lower colourfulness is better."

"""Drawings: what they show, read from their own coordinates, and how they fit a page."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dit_exp.report import plots
from dit_exp.report.plots import COLOURS, OTHER, Point, costs, curves
from dit_exp.report.statistics import Estimate, estimate

SETTINGS = [f"lr={i}" for i in range(len(COLOURS) + 1)]


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch):
    """The axes that a drawing was made on."""
    kept = []

    def drawn(name, draw):
        from matplotlib.figure import Figure

        kept.append(Figure().add_subplot())
        draw(kept[0])

    monkeypatch.setattr(plots, "_drawn", drawn)
    return kept


def test_a_curve_is_the_mean_with_its_interval_and_each_seed_faint(axes):
    curves("c", {"a": [{1.0: 10.0, 2.0: 4.0}, {1.0: 14.0, 2.0: 5.0, 3.0: 1.0}]}, ["a"], "images", "fid")
    *seeds, mean = axes[0].get_lines()
    assert [list(line.get_ydata()) for line in seeds] == [[10.0, 4.0], [14.0, 5.0, 1.0]]
    assert list(mean.get_xydata().ravel()) == [1.0, 12.0, 2.0, 4.5]
    [band] = axes[0].collections
    found = estimate([10.0, 14.0])
    edges = band.get_paths()[0].vertices
    assert {round(y, 6) for x, y in edges if x == 1.0} == {round(found.low, 6), round(found.high, 6)}


def test_a_wide_interval_does_not_flatten_the_curves(axes):
    curves("c", {"a": [{1.0: 10.0}, {1.0: 14.0}]}, ["a"], "images", "fid")  # 12 +- 25
    assert axes[0].get_ylim() == (8.0, 16.0)


def test_a_single_seed_has_no_band(axes):
    curves("c", {"a": [{1.0: 10.0, 2.0: 4.0}]}, ["a"], "images", "fid")
    assert len(axes[0].get_lines()) == 1
    assert not axes[0].collections


def test_a_setting_keeps_its_colour_where_others_are_missing(axes):
    curves("c", {SETTINGS[2]: [{1.0: 1.0}]}, SETTINGS, "images", "fid")
    assert axes[0].get_lines()[0].get_color() == COLOURS[2]


def test_the_front_is_filled_and_settings_past_the_last_colour_are_grey(axes):
    points = [Point(name, i, Estimate(20 - i, 19 - i, 22 - i, 3)) for i, name in enumerate(SETTINGS)]
    points[3] = Point(SETTINGS[3], 3, Estimate(30, None, None, 1))
    costs("p", points, SETTINGS, -1, "minutes", "fid")
    marks = [bar.lines[0] for bar in axes[0].containers]
    assert [mark.get_markerfacecolor() != "none" for mark in marks] == [i != 3 for i in range(len(SETTINGS))]
    assert [mark.get_color() for mark in marks] == [*COLOURS, OTHER]
    assert [len(bar.lines[2]) for bar in axes[0].containers] == [i != 3 for i in range(len(SETTINGS))]
    assert len(axes[0].get_legend_handles_labels()[1]) == len(COLOURS)


def test_a_drawing_takes_the_colour_and_the_font_of_its_page_and_is_the_same_each_time():
    first, again = (curves("c", {"a": [{1.0: 1.0, 2.0: 2.0}]}, ["a"], "images", "fid") for _ in range(2))
    assert first == again
    assert first.svg.startswith('<svg viewBox="')
    assert "currentColor" in first.svg
    assert plots.INK not in first.svg
    assert "DejaVu" not in first.svg
    assert ">images</text>" in first.svg
    with Image.open(io.BytesIO(first.png)) as picture:
        assert picture.width == 800
        assert picture.getpixel((0, 0))[:3] == (255, 255, 255)

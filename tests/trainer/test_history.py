from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from dit_exp.trainer.history import decimal_labels


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((0.965, 0.995), ["0.965", "0.97", "0.975", "0.98", "0.985", "0.99", "0.995"]),
        ((0.28, 0.95), ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]),
        ((0.04, 1.5), ["0.05", "0.1", "0.2", "0.5", "1"]),
    ],
)
def test_a_logarithmic_axis_has_decimal_labels(ends: tuple[float, float], labels: list[str]):
    axes = Figure().add_subplot(yscale="log", ylim=ends)
    decimal_labels(axes.yaxis)
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    axes.figure.draw_without_rendering()
    shown = {t.label1.get_text() for t in ticks if ends[0] <= t.get_loc() <= ends[1]}
    assert sorted(shown - {""}, key=float) == labels

"""The trace of a run: one JSON line a step in history.jsonl, and its picture."""

from __future__ import annotations

import json
import logging
from collections import deque
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class History:
    """Rows {step, loss, learning_rate, gradient_norm}; on resume, rows after the checkpoint are dropped.

    Rows that cannot be written, on a full disk say, are kept and written with the next ones. Of several
    processes one is `writing`.
    """

    def __init__(self, run_dir: Path, last_step: int, writing: bool = True) -> None:
        self.path, self.writing = run_dir / "history.jsonl", writing
        rows = [row for row in read_rows(self.path) if row["step"] <= last_step]
        if writing:
            write_rows(rows, self.path)
        self.recent = deque(rows, maxlen=100)
        self._unwritten: list[dict[str, Any]] = []
        self._size = self.path.stat().st_size if writing else 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows, read from the file."""
        return read_rows(self.path)

    def extend(self, rows: list[dict[str, Any]]) -> None:
        self.recent.extend(rows)
        if not self.writing:
            return
        self._unwritten += rows
        try:
            with self.path.open("r+b") as file:
                file.truncate(self._size)  # what a failed write left
                file.seek(self._size)
                file.write("".join(json.dumps(row) + "\n" for row in self._unwritten).encode())
                file.flush()
                self._size = file.tell()
            self._unwritten.clear()
        except OSError as error:
            log.error("%s cannot be written (%s); its rows are kept in memory.", self.path, error.strerror)

    def mean_loss(self) -> float:
        """Mean loss of the last 100 steps."""
        losses = [row["loss"] for row in self.recent]
        return sum(losses) / len(losses) if losses else float("nan")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a last line torn by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes all rows, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part.replace(path)


def plot_loss(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes the loss over steps, each step faint and a running mean over it, as a PNG."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=0.7)
    # A centred mean over a fiftieth of the run, shorter at the ends: it does not lag behind the loss.
    sums, half = np.cumsum([0.0, *losses]), len(losses) // 100
    middle = np.arange(len(losses))
    first, last = np.maximum(middle - half, 0), np.minimum(middle + half + 1, len(losses))
    axes.plot(steps, (sums[last] - sums[first]) / (last - first), color="C0", linewidth=1.8)
    axes.grid(alpha=0.3, which="both")
    decimal_labels(axes.yaxis)
    figure.savefig(path, dpi=110)


def decimal_labels(axis: Any) -> None:
    """Labels a logarithmic axis 0.98 and not 9.8 x 10^-1; beyond a power of ten, twos and fives alone."""
    from matplotlib.ticker import FuncFormatter

    low, high = axis.get_view_interval()

    def between(value: float, _: int) -> str:
        return f"{value:g}" if high <= 10 * low or f"{value:e}"[0] in "25" else ""

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(between))

"""A sweep in a few lines, for the terminal and the tracker."""

from __future__ import annotations

import json

from dit_exp.metrics.names import with_counts
from dit_exp.sweep.folder import Sweep

PLAN_FILE = "plan.json"


def counts(sweep: Sweep) -> dict[str, float]:
    """Runs that finished and failed, and the starts beyond each one's first."""
    statuses = [cell.status for cell in sweep.cells]
    return {
        "finished": float(sum(status.state == "finished" for status in statuses)),
        "failed": float(sum(status.state == "failed" for status in statuses)),
        "restarts": float(sum(max(0, status.attempts - 1) for status in statuses)),
    }


def scored(sweep: Sweep) -> list[str]:
    """The trackers' names of the runs' scores and validation loss, those that some run has."""
    names: dict[str, None] = {}
    for metrics in (cell.metrics for cell in sweep.cells):
        names |= dict.fromkeys(with_counts(metrics.get("scores", {}), metrics.get("protocol", {})))
    if any(cell.metrics.get("validation_loss") is not None for cell in sweep.cells):
        names["validation_loss"] = None
    return list(names)


def summary(sweep: Sweep) -> str:
    """A line for each run: its settings on the sweep's axes, its state, what the task returned."""
    axes = list(sweep.axes)
    rows = [["run", *axes, "state", "starts", "value"]]
    for cell in sweep.cells:
        status, settings = cell.status, cell.settings
        value = "" if status.value is None else f"{status.value:.5g}"
        own = [settings.get(axis, "") for axis in axes]
        rows.append([str(cell.number), *own, status.state, str(status.attempts), value])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, *_planned(sweep)])


def _planned(sweep: Sweep) -> list[str]:
    """What the whole sweep would take, where its task was to plan."""
    paths = [cell.folder / PLAN_FILE for cell in sweep.cells]
    plans = [json.loads(path.read_text()) for path in paths if path.exists()]
    if not plans:
        return []
    line = (
        f"The sweep takes {sum(plan['total_minutes'] for plan in plans) / 60:.2f} hours of one job at a time"
    )
    if cost := sum(plan.get("cost") or 0 for plan in plans):
        line += f", and costs {cost:.2f}"
    return [f"{line}."]

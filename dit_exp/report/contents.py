"""What stands in the report of a sweep, and in which order."""

from __future__ import annotations

import json
import shlex
from collections import Counter

from dit_exp.errors import UserError
from dit_exp.report import drawings, tables
from dit_exp.report.collect import Row, factors, label, rows
from dit_exp.report.columns import columns
from dit_exp.report.page import Report
from dit_exp.report.verdict import verdict
from dit_exp.sweep.folder import Sweep


def contents(sweep: Sweep) -> Report:
    """Reads all cells; those that are not done are listed. Raises UserError where none has finished."""
    cells, varied = rows(sweep), factors(sweep)
    finished = [row for row in cells if row.finished]
    states = ", ".join(f"{count} {state}" for state, count in Counter(r.status.state for r in cells).items())
    if not finished:
        raise UserError(f"{sweep.folder} has no finished cell to report on ({states or 'it has no cells'}).")
    measured = columns(cells, list(varied))
    if not measured:
        raise UserError(f"{sweep.folder}: no finished cell holds a score or a loss that is a finite number.")
    best = measured[0]
    text = verdict(best)
    elsewhere = {key for c in measured[1:] if c.name == best.name for key in c.estimates} - {*best.estimates}
    if elsewhere:
        names = "; ".join(label(key) for key in elsewhere)
        text += f" Measured by another protocol, and so not compared: {names}."
    if len(finished) < len(cells):
        text += f" So far {len(finished)} of {len(cells)} cells have finished."
    found = [
        tables.scores(measured, cells),
        tables.costs(measured, cells),
        tables.effects(measured, cells, varied) if varied else None,
        drawings.pareto(measured, cells),
        drawings.score_curves(measured, cells),
        drawings.samples(measured, cells),
        drawings.loss_curves(measured, cells),
        tables.undone(cells),
        tables.protocols(cells, list(varied)),
    ]
    facts = [
        ("command", shlex.join(sweep.command)),
        ("commit", _commits(sweep, cells)),
        ("cells", f"{len(cells)}: {states}"),
        ("folder", sweep.home or str(sweep.folder)),
    ]
    return Report(f"Sweep {sweep.name}", text, facts, [section for section in found if section])


def _commits(sweep: Sweep, cells: list[Row]) -> str:
    """The commit of the sweep, those of cells that ran on others, and whether there were changes."""
    commits, dirty = Counter[str](), 0
    for row in cells:
        path = row.cell.folder / "revision.json"
        revision = json.loads(path.read_text()) if path.exists() else {}
        commits[revision.get("git_commit", sweep.git_commit)] += 1
        dirty += revision.get("git_dirty") == "True"
    others = [
        f"{count} cells ran on {commit}" for commit, count in commits.items() if commit != sweep.git_commit
    ]
    changed = [f"{dirty} cells ran with uncommitted changes"] if dirty else []
    return "; ".join([sweep.git_commit, *others, *changed])

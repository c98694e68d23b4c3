"""What a sweep leaves on disk: sweep.json for the whole, and in each cell's folder a run and its status.json.

A cell is one run of the sweep. Its process writes the status, so the sweep can be read while it runs, after
the launching process has gone, and on another machine.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dit_exp.errors import UserError

SWEEP_FILE, STATUS_FILE = "sweep.json", "status.json"

State = Literal["waiting", "running", "requeued", "finished", "failed"]


@dataclass
class Status:
    """How far a cell is.

    attempts  times that its process was started   value  what the task returned
    job       the cluster's name for its job       log    file with what it printed
    """

    state: State = "waiting"
    attempts: int = 0
    value: float | None = None
    error: str | None = None
    job: str | None = None
    log: str | None = None


@dataclass
class Cell:
    """One run of a sweep: `overrides` are its own (cond=token, seed=1), `folder` its run directory."""

    number: int
    overrides: list[str]
    folder: Path

    @property
    def status(self) -> Status:
        """Read anew each time."""
        try:
            return Status(**json.loads((self.folder / STATUS_FILE).read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return Status()

    def write(self, status: Status) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self.folder / STATUS_FILE, vars(status))

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as {key: value}."""
        return dict(override.lstrip("+").split("=", 1) for override in self.overrides)

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json of the run; empty before it has ended."""
        path = self.folder / "metrics.json"
        return json.loads(path.read_text()) if path.exists() else {}


@dataclass
class Sweep:
    """`command` is what was typed, `name` the sweep file's or "sweep".

    `home` is the directory in which it ran, where `folder` is a copy of it on another machine.
    """

    folder: Path
    name: str
    command: list[str]
    cells: list[Cell] = field(default_factory=list)
    git_commit: str = "unknown"
    home: str | None = None

    def write(self) -> None:
        cells = [{"number": c.number, "overrides": c.overrides, "folder": c.folder.name} for c in self.cells]
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = {"name": self.name, "command": self.command, "git_commit": self.git_commit, "cells": cells}
        replace(self.folder / SWEEP_FILE, stored | ({"home": self.home} if self.home else {}))

    @property
    def axes(self) -> dict[str, list[str]]:
        """The keys that differ between cells and their values, in the order in which they appear."""
        values: dict[str, list[str]] = {}
        for cell in self.cells:
            for key, value in cell.settings.items():
                seen = values.setdefault(key, [])
                if value not in seen:
                    seen.append(value)
        return {key: seen for key, seen in values.items() if len(seen) > 1}


def read(folder: Path) -> Sweep:
    """The sweep in a directory. Raises UserError where there is none."""
    path = folder / SWEEP_FILE
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} holds no sweep: it has no {SWEEP_FILE}.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged ({error}). The cells' own folders are beside it.") from error
    cells = [Cell(c["number"], c["overrides"], folder / c["folder"]) for c in stored["cells"]]
    return Sweep(folder, stored["name"], stored["command"], cells, stored["git_commit"], stored.get("home"))


def replace(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON whole or not at all."""
    part = path.with_suffix(f".part{os.getpid()}")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(path)

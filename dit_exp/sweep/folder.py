"""What a sweep leaves on disk: sweep.json for the whole, and in each cell's folder a run and its status.json.

A cell is one run of the sweep. Its process writes the status, so the sweep can be read while it runs, after
the launching process has gone, and on another machine.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dit_exp.errors import UserError

SWEEP_FILE, STATUS_FILE = "sweep.json", "status.json"

State = Literal["waiting", "running", "requeued", "stopped", "finished", "failed"]


@dataclass
class Status:
    """How far a cell is.

    attempts  times that its process was started   value  what the task returned
    log       file with what it printed
    """

    state: State = "waiting"
    attempts: int = 0
    value: float | None = None
    error: str | None = None
    log: str | None = None


@dataclass
class Cell:
    """One run of a sweep: `overrides` are its own (cond=token, seed=1), `folder` its run directory.

    `job` is the name of the last job that was submitted for it.
    """

    number: int
    overrides: list[str]
    folder: Path
    job: str | None = None

    @property
    def status(self) -> Status:
        """Read anew each time."""
        try:
            stored = json.loads((self.folder / STATUS_FILE).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return Status()
        return Status(**{key: value for key, value in stored.items() if key in vars(Status())})

    def write(self, status: Status) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / STATUS_FILE, vars(status))

    def change(self, **changes: Any) -> None:
        """Writes the status anew with some of its fields changed."""
        self.write(replace(self.status, **changes))

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as {key: value}."""
        return {key.lstrip("+"): value for key, _, value in (o.partition("=") for o in self.overrides)}

    def own(self, sweep: Sweep) -> str:
        """What tells it from the other cells: cond=token seed=1."""
        axes = sweep.axes
        return " ".join(f"{key}={value}" for key, value in self.settings.items() if key in axes)

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
        cells = [vars(cell) | {"folder": cell.folder.name} for cell in self.cells]
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = {"name": self.name, "command": self.command, "git_commit": self.git_commit, "cells": cells}
        write_json(self.folder / SWEEP_FILE, stored | ({"home": self.home} if self.home else {}))

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
    cells = [Cell(**entry | {"folder": folder / entry["folder"]}) for entry in stored["cells"]]
    return Sweep(folder, stored["name"], stored["command"], cells, stored["git_commit"], stored.get("home"))


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Holds a sweep's folder, if no other process does; tells whether."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON whole or not at all."""
    part = path.with_suffix(f".part{os.getpid()}")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(path)

"""A run's events on disk: what the training appends and what the sender has yet to send.

One event is one line of JSON with a `kind` (start, metrics, image, artifact or finish) and the `time` when it
happened, in milliseconds. The file is never cut, so a run can be sent in full to a server that has lost it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]

GROUP = 1000
"""Values sent in one request: the most that MLflow takes."""

FOLDER, STATE = "tracker", "sent.json"
"""A spool in its run directory, and the file in it that says how far it was sent."""


def known_run(run_dir: Path) -> str | None:
    """The tracking server's name for the run of a directory, None where there is none yet."""
    return _stored(run_dir / FOLDER / STATE).get("run_id")


def known_store(run_dir: Path) -> str | None:
    """The bare address of the store that a directory's run is sent to, None where it was never tracked."""
    return _stored(run_dir / FOLDER / STATE).get("store")


def _stored(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


class Spool:
    """events.jsonl, sent.json and the files to be sent, in `folder`.

    `store` is the bare address of what the events are sent to, `run_id` its name for the run, None before it
    knows it, and `sent` the number of bytes of events.jsonl that it has. The same is kept of each store that
    the run was sent to before. One thread appends, another one sends.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self._state = folder / STATE
        self._pending = folder / "pending"
        self._pending.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)  # a line that was written survives kill -9
        os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)  # killed while it wrote a line
        state = _stored(self._state)
        self.store: str | None = state.get("store")
        self._elsewhere: dict[str, dict[str, Any]] = state.get("elsewhere", {})
        self._stand(state)

    def _stand(self, state: dict[str, Any]) -> None:
        self.run_id: str | None = state.get("run_id")
        self.sent = min(int(state.get("sent", 0)), self.path.stat().st_size)

    def append(self, event: Event) -> None:
        self._file.write(json.dumps(event).encode() + b"\n")

    def close(self) -> None:
        """Ends appending. What is unsent stays."""
        self._file.close()

    def keep(self, path: Path) -> str:
        """Copies a file that is to be sent, since the next step may overwrite it; returns its name here."""
        folder = self._pending / str(os.fstat(self._file.fileno()).st_size)
        folder.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / path.name)
        return f"{folder.name}/{path.name}"

    def kept(self, name: str) -> Path:
        return self._pending / name

    def history(self) -> list[Event]:
        """All events."""
        return [event for event, _ in self._events(0)]

    def following(self) -> tuple[list[Event], int]:
        """The next events to send in one request, and the value of `sent` after them.

        Metrics that follow each other come together, up to GROUP values; other events come alone.
        """
        group: list[Event] = []
        end, values = self.sent, 0
        for event, after in self._events(self.sent):
            values += len(event.get("values", ()))
            if group and (event["kind"] != "metrics" or group[0]["kind"] != "metrics" or values > GROUP):
                break
            group.append(event)
            end = after
        return group, end

    def unsent(self) -> int:
        """Events that are yet to be sent."""
        return sum(1 for _ in self._events(self.sent))

    def mark(self, run_id: str | None, sent: int, done: list[Event]) -> None:
        """Records the run and how far it was sent, and removes the copies of files that were."""
        self.run_id, self.sent = run_id, sent
        draft = self._state.with_suffix(".tmp")
        state = {"store": self.store, "run_id": run_id, "sent": sent, "elsewhere": self._elsewhere}
        draft.write_text(json.dumps(state))
        draft.replace(self._state)
        for event in done:
            if "file" in event:
                shutil.rmtree(self.kept(event["file"]).parent, ignore_errors=True)

    def move(self, store: str) -> None:
        """Goes on with another store, where the run may have been before; what this one has is remembered."""
        if self.store is not None and self.run_id is not None:
            self._elsewhere[self.store] = {"run_id": self.run_id, "sent": self.sent}
        self.store = store
        self._stand(self._elsewhere.pop(store, {}))
        self.mark(self.run_id, self.sent, [])

    def _events(self, start: int) -> Iterator[tuple[Event, int]]:
        """(event, offset after it) from byte `start` to the last whole line."""
        with self.path.open("rb") as file:
            file.seek(start)
            for line in file:
                start += len(line)
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line), start
                except ValueError:
                    continue  # what a full disk or a power cut left of a line

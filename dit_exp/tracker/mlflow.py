"""MLflow, in a SQLite file or on a server, in a way that never stops or slows a run.

Every event is first appended to RUN_DIR/tracker/events.jsonl and then sent by a thread. A server that is away
makes the file grow and nothing else; the next start in the same run directory sends what is left. Metrics
carry the time at which they were logged, and MLflow ignores one that it has, so no point is lost or doubled.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from dit_exp.errors import UserError
from dit_exp.tracker.address import INSTEAD, bare, check, check_readable, reason, shown, sqlite_file
from dit_exp.tracker.sender import Sender
from dit_exp.tracker.spool import FOLDER, Event, Spool, known_run, known_store
from dit_exp.tracker.store import Store, has_run, opened

log = logging.getLogger(__name__)


class MlflowTracker:
    """A run in an MLflow experiment; a second start in the same run directory goes on in the same run.

    uri         sqlite:///PATH, http://HOST:PORT, or a database that MLflow knows
    experiment  created where it does not exist; beside a SQLite file, its pictures go to mlartifacts/
    patience    seconds that `finish` waits for what is not yet sent

    Raises UserError at start for an address that cannot be used; a server that does not answer is no error.
    """

    def __init__(self, uri: str, experiment: str, patience: float = 30.0) -> None:
        self.uri, self.experiment, self.patience = uri, experiment, patience
        self._earlier: dict[str, tuple[int, float | None]] = {}
        self._completed = False

    def start(
        self,
        run_dir: Path,
        parameters: dict[str, Any],
        tags: dict[str, str],
        name: str,
        sweep: Path | None = None,
    ) -> None:
        check(self.uri)
        self._run_dir, self._sweep = run_dir, None if sweep is None else str(sweep)
        self._spool = Spool(run_dir / FOLDER)
        if self._spool.run_id is None:  # known before the server answers: what is added later finds it
            self._spool.move(bare(self.uri))
        self._recall(self._spool.history())
        store = Store(self.uri, self.experiment, self._spool)
        if sqlite_file(self.uri):
            self._open(store)
        self._sender = Sender(self._spool, store)
        self._put(
            kind="start",
            name=name,
            parameters={key: str(value) for key, value in parameters.items()},
            tags={key: str(value) for key, value in tags.items()},
            sweep=self._sweep,
        )
        self._sender.start()

    def log(self, values: dict[str, float], step: int) -> None:
        fresh = {k: float(v) for k, v in values.items() if not self._repeated(k, step, float(v))}
        if fresh:
            self._put(kind="metrics", step=step, values=fresh)

    def image(self, name: str, path: Path, step: int) -> None:
        if not self._repeated(f"image {name}", step, None):
            self._earlier[f"image {name}"] = step, None  # the last preview may also be the final picture
            self._put_file(path, kind="image", name=name, step=step)

    def artifact(self, path: Path) -> None:
        self._put_file(path, kind="artifact")

    def _put_file(self, path: Path, **event: Any) -> None:
        try:
            copy = self._spool.keep(path)
        except OSError as error:
            log.error("%s cannot be kept for the tracker (%s).", path, error.strerror)
        else:
            self._put(**event, file=copy)

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run as FINISHED, FAILED or KILLED, and says what could not be sent."""
        self._put(kind="finish", status=status, sweep=self._sweep)
        self._sender.finish(self.patience)
        self._spool.close()
        left = self._spool.unsent()
        if left:
            log.warning(
                "%d events could not be sent to %s. They are kept in %s; the same command with run_dir=%s "
                "sends them when the server is back.",
                left,
                shown(self.uri),
                self._spool.path,
                self._run_dir,
            )

    def view(self, name: str, metrics: list[str], parameters: list[str]) -> None:
        self._put(kind="view", name=name, metrics=metrics, parameters=parameters)

    def for_run(self, run_dir: Path, named: bool) -> MlflowTracker:
        """A tracker for what is added to the run of a directory: one of the store that has the run.

        Raises UserError for an address that was `named` and is another store's, and where the run's own
        SQLite file is not there.
        """
        store, run_id = known_store(run_dir), known_run(run_dir)
        if store == bare(self.uri):
            return self
        if named or store is None:
            if run_id is None or self._knows(run_id):  # a server may have several names
                return self
            where = "tracked in another store" if store is None else f"tracked in {store}"
            raise UserError(
                f"tracker.uri={shown(self.uri)} does not know {run_dir}, which is run {run_id} and {where}. "
                "Pass that store's address, or tracker=none to log nothing."
            )
        file = sqlite_file(store)
        if file is not None and not file.exists():
            raise UserError(
                f"{run_dir} is tracked in {store}, and there is no such file. Pass tracker.uri=URI of where "
                "it is now, or tracker=none to log nothing."
            )
        log.info("%s is tracked in %s, which gets what is made of it.", run_dir, store)
        return MlflowTracker(store, self.experiment, self.patience)

    def _knows(self, run_id: str) -> bool:
        check_readable(self.uri)
        try:
            with opened(self.uri) as client:
                return has_run(client, run_id)
        except Exception as error:
            raise UserError(f"tracker.uri={shown(self.uri)} cannot be read ({reason(error)}).") from error

    def deliver(self, run_dir: Path) -> bool:
        """Sends what a run that has ended in a directory could not send; tells whether all of it is sent."""
        if not (run_dir / FOLDER).exists():
            return True
        spool, left = Spool(run_dir / FOLDER), 0
        if spool.unsent():
            sender = Sender(spool, Store(self.uri, self.experiment, spool))
            sender.start()
            sender.finish(self.patience)
            if left := spool.unsent():
                log.warning(
                    "%d events of %s could not be sent to %s. The same command sends what is left.",
                    left,
                    run_dir,
                    shown(self.uri),
                )
        spool.close()
        return not left

    def _put(self, **event: Any) -> None:
        try:
            self._spool.append(event | {"time": time.time_ns() // 1_000_000})
        except OSError as error:  # a full disk must not end the training
            log.error("%s cannot be written (%s): an event is lost.", self._spool.path, error.strerror)
        self._sender.wake()

    def _open(self, store: Store) -> None:
        """A file is there or not, so a database that MLflow cannot use is said before the training."""
        try:
            store.connect()
        except UserError:
            raise
        except Exception as error:
            if "locked" not in str(error):
                raise UserError(
                    f"tracker.uri={self.uri} cannot be used ({reason(error)}). {INSTEAD}"
                ) from error

    def _recall(self, history: list[Event]) -> None:
        """What earlier starts in this run directory have logged last, and whether they came to the end."""
        for event in history:
            if event["kind"] == "metrics":
                self._earlier |= {key: (event["step"], value) for key, value in event["values"].items()}
            elif event["kind"] == "image":
                self._earlier[f"image {event['name']}"] = event["step"], None
            self._completed = event.get("status") == "FINISHED"

    def _repeated(self, key: str, step: int, value: float | None) -> bool:
        """Whether an earlier start has logged it: a run resumed from a checkpoint takes some steps again.

        After a run that came to its end no step is taken again, and another value is a new one: a score
        with more samples, say.
        """
        last, known = self._earlier.get(key, (-1, None))
        return step < last or (step == last and (value == known or not self._completed))

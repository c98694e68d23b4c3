"""The thread that sends what a run has logged, so that the training never waits for a tracking server."""

from __future__ import annotations

import logging
import math
import threading
import time

from dit_exp.tracker.address import reason, shown
from dit_exp.tracker.spool import Event, Spool
from dit_exp.tracker.store import Refused, Store

log = logging.getLogger(__name__)

LINGER = 0.5
"""Seconds in which events gather before they are sent together."""

FIRST, LONGEST = 1.0, 30.0
"""Seconds until the next try after one that failed: the first time, then doubling up to the longest."""


class Sender(threading.Thread):
    """Sends a spool's events in their order; after a failure it goes on where it was."""

    def __init__(self, spool: Spool, store: Store) -> None:
        super().__init__(name="tracker", daemon=True)
        self.spool, self.store = spool, store
        self._news, self._closing = threading.Event(), threading.Event()
        self._deadline = math.inf
        self._away = False
        self._refusals: set[str] = set()

    def wake(self) -> None:
        """There are new events."""
        self._news.set()

    def finish(self, patience: float) -> None:
        """Waits until everything is sent, for at most `patience` seconds; then nothing more is sent."""
        self._deadline = time.monotonic() + patience
        self._closing.set()
        self._news.set()
        self.join(patience)

    def run(self) -> None:
        delay = FIRST
        while self._in_time():
            closing = self._closing.is_set()  # asked before sending: what comes later needs another round
            self._news.clear()
            try:
                self._send()
            except Exception as error:  # of the network, the server, the database: all may pass
                self._failed(error)
                if closing:
                    time.sleep(max(0.0, min(delay, self._deadline - time.monotonic())))
                    delay = min(2 * delay, LONGEST)
                else:
                    delay = FIRST if self._closing.wait(delay) else min(2 * delay, LONGEST)
                continue
            delay = FIRST
            if closing:
                return
            self._news.wait()
            self._closing.wait(LINGER)

    def _in_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _send(self) -> None:
        self.store.connect()
        while self._in_time():
            events, end = self.spool.following()
            if not events:
                return
            self._deliver(events)
            self.spool.mark(self.spool.run_id, end, events)
            if self._away:
                self._away = False
                log.warning("The tracking server %s is back.", shown(self.store.uri))

    def _deliver(self, events: list[Event]) -> None:
        """Sends events; each on its own where one of several is refused, so that only that one is lost."""
        try:
            self.store.send(events)
        except Refused as error:
            if len(events) > 1:
                for event in events:
                    self._deliver([event])
            elif str(error) not in self._refusals:
                self._refusals.add(str(error))
                log.warning("The tracking server refuses %s: %s", events[0]["kind"], error)

    def _failed(self, error: Exception) -> None:
        if not self._away and self._in_time():  # after that, `finish` has spoken
            self._away = True
            log.warning(
                "The tracking server %s cannot be reached (%s). The run goes on; what it logs waits in %s.",
                shown(self.store.uri),
                reason(error),
                self.spool.path,
            )

"""SIGTERM, SIGINT and SIGUSR2 end a run after its current step, with everything saved.

SIGUSR2 is what a cluster sends before it takes a job's machine or its time is up.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from dit_exp.errors import Stopped

SIGNALS = (None, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""The later, the weightier: after SIGUSR2 a job is started again."""


def weight(number: int | None) -> int:
    """Which of several signals counts: the largest; 0 for none."""
    return SIGNALS.index(number)


class StopRequest:
    """In the `with`, the weightiest signal is kept in `number`; a second SIGINT interrupts."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if weight(number) > weight(self.number):
            self.number = number
        if self.at_once is not None:
            name = signal.Signals(self.number or number).name
            raise Stopped(f"Stopped by {name} {self.at_once}", 128 + (self.number or number))

    @contextmanager
    def heeded(self, text: str) -> Iterator[None]:
        """In the `with`, a signal raises Stopped with this text, and an earlier one does so at its start."""
        self.at_once = text
        try:
            if self.number is not None:
                self._receive(self.number, None)
            yield
        finally:
            self.at_once = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

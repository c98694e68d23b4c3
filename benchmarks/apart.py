"""A job in a process of its own, whose memory no other job has used."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from benchmarks.paired import Job


class Apart:
    """Called, it does the job there and gives what that gives. `end`, or that of a `with`, ends the process.

    make  builds the job from the arguments, over there; a function of a module, since it is sent by name
    """

    def __init__(self, make: Callable[..., Job], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        given = (other, torch.get_num_threads(), make, arguments)
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        other.close()  # so that its end over there is seen here

    def __enter__(self) -> Apart:
        self()
        return self

    def __call__(self) -> Any:
        try:
            self.pipe.send(True)
            return self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise AssertionError("The process of a job ended; what it said stands above.") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, threads: int, make: Callable[..., Job], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    job = make(*arguments)
    while pipe.recv():
        pipe.send(job())

"""A job in a process of its own: no other has used its memory, and it compiles while others compile here."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch


class Apart:
    """Called, it does the job there and gives what that gives. `end`, or that of a `with`, ends the process.

    make  builds the job from the arguments, over there; a function of a module, since it is sent by name.
          What Apart is called with is given to the job
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        given = (other, torch.get_num_threads(), make, arguments)
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        other.close()  # so that its end over there is seen here

    def __enter__(self) -> Apart:
        return self

    def __call__(self, *words: Any) -> Any:
        self.ask(*words)
        return self.answer()

    def ask(self, *words: Any) -> None:
        """Has the job begin. Nothing else may be asked until `answer` was called."""
        try:
            self.pipe.send(words)
        except ConnectionError as error:
            raise AssertionError(ENDED) from error

    def answer(self) -> Any:
        """What the job gives, when it has."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise AssertionError(ENDED) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self.pipe.close()  # by which a process that waits ends of itself, its compilers with it
        self.process.join(SECONDS)
        self.process.terminate()
        self.process.join()


class Here:
    """The same in this process, one after another: two processes on one GPU would be in each other's way."""

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        self.job, self.words = make(*arguments), ()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, *words: Any) -> Any:
        return self.job(*words)

    def ask(self, *words: Any) -> None:
        self.words = words

    def answer(self) -> Any:
        return self.job(*self.words)


def beside(device: torch.device, make: Callable[..., Callable[..., Any]], *arguments: Any) -> Apart | Here:
    """The peer's jobs: in a process of its own on a CPU, here on a GPU."""
    return (Apart if device.type == "cpu" else Here)(make, *arguments)


SECONDS = 5.0
"""That a process is given to end."""
ENDED = "The process of a job ended; what it said stands above."


def _serve(
    pipe: Connection, threads: int, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    job = make(*arguments)
    while True:
        try:
            words = pipe.recv()
        except EOFError:
            return
        pipe.send(job(*words))

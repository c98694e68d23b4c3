"""What a run may end with besides success. No torch here: a message must not wait for its import."""

from __future__ import annotations

import signal


class UserError(Exception):
    """A mistake that the user can mend. The text says what is wrong, where it came from and what to do.

    The command line prints the text alone, without a traceback, and exits with code 2.
    """


class Stopped(BaseException):
    """A signal ended the program. The text says what was saved and how to go on.

    No Exception, so that a sweep does not take it for one failed cell and start the next.

    `code` is the exit code, 128 + the signal's number; `preempted` tells that a cluster will start it anew.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)  # both, so that it can be pickled
        self.code = code

    @property
    def preempted(self) -> bool:
        return self.code == 128 + signal.SIGUSR2

    def __str__(self) -> str:
        return self.args[0]

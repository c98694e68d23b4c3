"""What the commands share: a mistake of whoever called one is told as run.py tells it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from dit_exp.messages import explain


def told(main: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit code; what its user can mend is told without a traceback."""
    try:
        return main() or 0
    except Exception as error:
        text, code = explain(error, [])
        if code != 2:
            raise
        print(text, file=sys.stderr)
        return code


def positive(word: str) -> int:
    """A number of something from 1, for argparse."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is no whole number from 1")
    return int(word)

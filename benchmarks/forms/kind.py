"""One computation in several forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.paired import Job


class Kind(NamedTuple):
    """Forms of one computation, the one in use first; each job returns what the others must return too.

    end  called when all is measured
    """

    what: str
    forms: dict[str, Job]
    tolerance: float
    end: Callable[[], None] = lambda: None

"""The most memory that a training has held."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch

from dit_exp.device import give_back_freed_memory

PROCESS = Path("/proc/self")


class PeakMemory:
    """The peak in GiB since it was made: the accelerator's, or on a CPU that of the whole process, libraries
    included.

    What `left_out` surrounds, as drawing and scoring, does not count. On a CPU a peak is known of the first
    training in a process alone, since a process keeps some of what earlier ones have let go of, and only
    where the system tells it (Linux).
    """

    _trained: ClassVar[bool] = False

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known = device.type == "cuda" or not PeakMemory._trained
        self._highest = 0.0
        PeakMemory._trained = True
        self._reset()

    @property
    def gib(self) -> float | None:
        """The peak up to here, None where it is not known."""
        return max(self._highest, self._peak()) if self._known else None

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Memory that is held inside, and not before or after, does not count."""
        self._highest = self.gib or 0.0
        yield
        self._reset()

    def _reset(self) -> None:
        """Begins a new peak with what is held at this moment."""
        if not self._known:
            return
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        give_back_freed_memory()
        try:
            (PROCESS / "clear_refs").write_text("5")  # proc(5): sets VmHWM back
        except OSError:
            self._known = False

    def _peak(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**30
        found = re.search(r"VmHWM:\s*(\d+) kB", (PROCESS / "status").read_text())
        assert found is not None
        return int(found[1]) / 2**20

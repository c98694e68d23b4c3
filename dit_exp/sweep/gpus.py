"""The GPUs of this machine, lent to the runs of a sweep that are processes of it."""

from __future__ import annotations

import os
import re
import subprocess

VISIBLE = "CUDA_VISIBLE_DEVICES"


def present() -> list[str]:
    """The GPUs by names that CUDA_VISIBLE_DEVICES takes: its own where it is set, else what nvidia-smi lists.

    None where it is set to nothing, or nvidia-smi is not there. torch is not asked: its import takes seconds.
    """
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return [name for name in names if name and name != "-1"]
    try:
        shown = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return listed(shown.stdout)


def listed(text: str) -> list[str]:
    """The UUIDs in what `nvidia-smi -L` prints; the numbers there need not be those that CUDA counts by.

    A GPU that is divided (MIG) is used by its parts alone, whose lines follow its own.
    """
    names: list[str] = []
    whole = ""
    for line in text.splitlines():
        found = re.search(r"UUID: ((GPU|MIG)-[^)\s]+)\)", line)
        if found is None:
            continue
        if found[2] == "GPU":
            whole = found[1]
        elif names and names[-1] == whole:
            names.pop()
        names.append(found[1])
    return names


class Leases:
    """Which run has which GPU. More runs than GPUs share them evenly."""

    def __init__(self, gpus: list[str]) -> None:
        self.gpus = gpus
        self._lent: dict[int, str] = {}

    def take(self, run: int) -> None:
        """Lends the GPU with the fewest runs, the first of several, until it is given back."""
        held = list(self._lent.values())
        if self.gpus:
            self._lent[run] = min(self.gpus, key=held.count)

    def of(self, run: int) -> str | None:
        """The GPU that a run has; None where the machine has none."""
        return self._lent.get(run)

    def give_back(self, run: int) -> None:
        self._lent.pop(run, None)

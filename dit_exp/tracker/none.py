"""No tracking: numbers and pictures stay in the run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class NoTracker:
    """Takes everything and keeps nothing."""

    def start(
        self,
        run_dir: Path,
        parameters: dict[str, Any],
        tags: dict[str, str],
        name: str,
        sweep: Path | None = None,
    ) -> None:
        """Nothing to start."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Nothing to log to."""

    def image(self, name: str, path: Path, step: int) -> None:
        """Nothing to show it in."""

    def artifact(self, path: Path) -> None:
        """Nothing to keep it in."""

    def view(self, name: str, metrics: list[str], parameters: list[str]) -> None:
        """Nothing to view."""

    def for_run(self, run_dir: Path, named: bool) -> NoTracker:
        """Itself: nothing goes anywhere."""
        return self

    def deliver(self, run_dir: Path) -> bool:
        """Nothing to send."""
        return True

    def finish(self, status: str = "FINISHED") -> None:
        """Nothing to finish."""

"""What a person and the tracker see of a run in progress."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from dit_exp.trainer.memory import PeakMemory
from dit_exp.trainer.state import TrainState

EXACT = {"step", "learning_rate"}
"""What of a step's row is no mean over the batch."""


class Progress:
    """A bar with loss, images/s and time left on a terminal, and the figures of each report."""

    def __init__(
        self,
        state: TrainState,
        max_steps: int | None,
        max_seconds: float | None,
        memory: PeakMemory,
        shown: bool = True,
    ) -> None:
        from tqdm import tqdm

        self.by_time = max_seconds is not None
        total, done = (max_seconds, state.seconds) if self.by_time else (max_steps, state.step)
        self.bar = tqdm(
            total=round(total or 0),
            initial=round(done),
            unit="s" if self.by_time else "step",
            disable=None if shown else True,
            dynamic_ncols=True,
        )
        self.images, self.seconds = state.images, time.monotonic()
        self.memory = memory

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def leave_out(self, seconds: float) -> None:
        """Takes time that was not spent on training out of images/s."""
        self.seconds += seconds

    def report(self, rows: list[dict[str, Any]], state: TrainState) -> dict[str, float]:
        """Means over the rows since the last report; images/s, and memory where it is known."""
        now = time.monotonic()
        rate = (state.images - self.images) / max(now - self.seconds, 1e-9)
        self.images, self.seconds = state.images, now
        values = {
            **{name: sum(row[name] for row in rows) / len(rows) for name in rows[0].keys() - EXACT},
            "learning_rate": rows[-1]["learning_rate"],
            "images": float(state.images),
            "images_per_second": rate,
        }
        if (memory := self.memory.gib) is not None:
            values["memory_gib"] = memory
        self.bar.set_postfix_str(f"loss {values['loss']:.4f}, {rate:,.0f} img/s", refresh=False)
        self.bar.n = round(state.seconds) if self.by_time else state.step
        self.bar.refresh()
        return values

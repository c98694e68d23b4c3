"""Where the time of a training step goes: a trace, and the ten most expensive operations."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile, schedule

log = logging.getLogger(__name__)

WAIT, WARMUP, ACTIVE = 3, 1, 3
SKIPPED = WAIT + WARMUP


class Profile:
    """Around a training; `step` follows each step. Records three steps after the fourth, and no others.

    Writes trace.json, which chrome://tracing and Perfetto open, and profile.txt into the run directory. Where
    the training ends before, it writes of those that there were, and of none nothing.
    """

    def __init__(self, run_dir: Path, wanted: bool, device: torch.device) -> None:
        self.run_dir, self.device = run_dir, device
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        plan = schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1)
        # Without shapes: with them a step of DiT-S/4 took 1.4 times as long and a gigabyte more.
        self.recorder = (
            profile(activities=activities, schedule=plan, on_trace_ready=self._write) if wanted else None
        )

    def __enter__(self) -> Profile:
        if self.recorder is not None:
            self.recorder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.recorder is not None:
            self.recorder.__exit__(kind, error, trace)
            if self.recorded < 1:
                log.warning("No profile was written: it is of steps %d to %d.", SKIPPED + 1, SKIPPED + ACTIVE)

    @property
    def recorded(self) -> int:
        """Steps that were recorded whole."""
        return 0 if self.recorder is None else min(self.recorder.step_num - SKIPPED, ACTIVE)

    def step(self) -> None:
        if self.recorder is not None:
            self.recorder.step()

    def _write(self, recorded: profile) -> None:
        if self.recorded < 1:
            return
        recorded.export_chrome_trace(str(self.run_dir / "trace.json"))
        key = f"self_{self.device.type}_time_total"
        averages = recorded.key_averages()
        for step in [event for event in averages if event.is_user_annotation]:  # which is no operation
            averages.remove(step)
        (self.run_dir / "profile.txt").write_text(averages.table(sort_by=key, row_limit=10))
        where = self.run_dir / "profile.txt"
        log.info("The profile of %d step(s) is in %s and trace.json.", self.recorded, where)

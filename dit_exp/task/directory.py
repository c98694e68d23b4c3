"""A run directory belongs to one run, and to one process at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from dit_exp import parallel
from dit_exp.errors import Stopped, UserError
from dit_exp.inherited import ENCODED_BY, MOVABLE
from dit_exp.task.parts import Stage

SAME = (
    "model", "attn", "cond", "process", "timesteps", "weighting", "objective", "alignment", "autoencoder",
    "augment", "data", "seed", "perceptual", "discriminator",
)  # fmt: skip
SAME_IN_TRAINER = ("batch_size", "precision", "ema_decay")
SAME_IN_TASK = ("exponent", "codebook_every")  # of task=autoencoder: its loss, and when codes are restarted
"""What makes a run; the rest (budget, learning rate, sampler, metrics) may change when it goes on.

So may the number of processes, and with processes x accumulate unchanged it draws the same at random.
"""

PREEMPTED = 128 + signal.SIGUSR2

WAIT = 600.0
"""Seconds that a restarted job waits for its first process to let go of the run directory."""

PLACES = ("root", "images", "cache", "repo", "weights")
"""Where data and others' weights lie, which may change without them changing."""


@contextmanager
def locked(run_dir: Path, key: str = "run_dir") -> Iterator[None]:
    """Holds the run directory, or the folder that another key names, for this run alone. Raises UserError
    where another one has it.

    A cluster that starts a job anew may not yet have ended its first process: there it is waited for.
    """
    with (run_dir / ".lock").open("w") as file:

        def lock() -> None:
            started = time.monotonic()
            while True:
                try:
                    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    again = "SLURM_RESTART_COUNT" in os.environ
                    if again and time.monotonic() - started > WAIT:  # it goes on well: look in again later
                        raise Stopped(
                            f"{key}={run_dir} is in use by this job's first process.", PREEMPTED
                        ) from None
                    if not again:
                        raise UserError(
                            f"{key}={run_dir} is in use by another process. "
                            f"Wait for it, or pass another {key}."
                        ) from None
                    time.sleep(1)

        parallel.from_main(lock)
        yield


@contextmanager
def terminable(run_dir: Path) -> Iterator[None]:
    """SIGTERM and SIGUSR2 end the task with a message; the training loop has its own way while it runs."""

    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:  # what the first one began, as telling the tracker, is not broken off
            return
        name = signal.Signals(number).name
        raise Stopped(f"Stopped by {name}. The same command with run_dir={run_dir} goes on.", 128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def check(parts: Stage) -> None:
    """Raises UserError where the directory holds another run. Nothing in it has been changed by then."""
    parallel.from_main(lambda: _check(parts))


def _check(parts: Stage) -> None:
    import yaml

    if not any((parts.run_dir / "checkpoints").glob("step_*[0-9].*")):
        return
    config = parts.run_dir / "config.yaml"
    stored = yaml.safe_load(config.read_text()) if config.exists() else None
    task = "dit_exp.task.train.train" if stored is None else stored["task"]["_target_"]
    if task != parts.config["task"]["_target_"]:
        raise UserError(
            f"run_dir={parts.run_dir} holds a training run, and task={parts.choices['task']} would "
            "overwrite it. Pass another run_dir; checkpoint= names the run to read."
        )
    if not parts.trainer.resume or stored is None:
        return
    if lines := differences(stored, parts.config):
        listed = "\n  ".join(lines)
        raise UserError(
            f"run_dir={parts.run_dir} holds a run of another configuration:\n  {listed}\n"
            "Pass another run_dir, or trainer.resume=false to start anew in this one."
        )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What makes two configurations different runs, a line each.

    An autoencoder may have moved where both tell its identity, which then is the same or makes another run; a
    first stage has none before its end, and runs of a time before it was told have none either.
    """
    identified = ENCODED_BY in before and ENCODED_BY in now
    old, new = dict(_facts(before, identified)), dict(_facts(now, identified))
    return [
        f"{key}: {old.get(key)} in the run directory, {new.get(key)} in the command"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and key.rpartition(".")[2] not in PLACES
        and not (identified and key in MOVABLE)
    ]


def _facts(config: dict[str, Any], identified: bool) -> Iterator[tuple[str, Any]]:
    groups = {key: config.get(key) for key in (*SAME, *([ENCODED_BY] if identified else []))}
    trainer = {key: config["trainer"].get(key) for key in SAME_IN_TRAINER}
    task = {key: config["task"].get(key) for key in SAME_IN_TASK}
    return _leaves({**groups, "trainer": trainer, "task": task}, "")


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield name, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{name}.{key}".lstrip("."))

"""How long a job may run: the limit of a Slurm partition."""

from __future__ import annotations

import re
import subprocess

from dit_exp.errors import UserError

UNLIMITED = float("inf")
INSTEAD = "Pass task.limit_minutes=MINUTES in place of task.partition."


def limit_minutes(partition: str) -> float:
    """Minutes that a job may take in a partition, infinity where it has no limit.

    Raises UserError where Slurm is not installed, does not answer or has no such partition.
    """
    try:
        shown = subprocess.run(
            ["scontrol", "show", "partition", partition], capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError:
        raise UserError(
            f"task.partition={partition} is looked up with scontrol, which is not on this machine. {INSTEAD}"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"scontrol did not answer in 30 seconds. {INSTEAD}") from None
    if shown.returncode:
        why = (shown.stderr or shown.stdout).strip()
        raise UserError(
            f"task.partition={partition}: scontrol says {why!r}. sinfo lists partitions. {INSTEAD}"
        )
    return parse(shown.stdout)


def longest(partitions: str | None) -> float:
    """Minutes that a job may take in one of `partitions`, names with commas between; None is the cluster's
    default. Infinity where none is known. Raises as `limit_minutes`.
    """
    if partitions is None:
        command = ["sinfo", "--noheader", "--format=%P"]
        try:
            listing = subprocess.run(command, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return UNLIMITED
        partitions = ",".join(name[:-1] for name in listing.stdout.split() if name.endswith("*"))
    return max((limit_minutes(name) for name in partitions.split(",") if name), default=UNLIMITED)


def parse(shown: str) -> float:
    """Minutes from what `scontrol show partition` prints: MaxTime=[days-]hours:minutes:seconds or UNLIMITED.

    Raises UserError for anything else.
    """
    found = re.search(r"\bMaxTime=(\S+)", shown)
    if found and found[1].upper() in ("UNLIMITED", "INFINITE"):
        return UNLIMITED
    time = found and re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", found[1])
    if not time:
        raise UserError(f"scontrol shows no MaxTime that can be read ({found and found[1]}). {INSTEAD}")
    days, hours, minutes, seconds = (int(part or 0) for part in time.groups())
    return 1440 * days + 60 * hours + minutes + seconds / 60

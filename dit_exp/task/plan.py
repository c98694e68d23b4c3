"""task=plan: what a run would take, before it is run, and whether it fits."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass
from typing import Any

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.nn.count import count_gmac, count_parameters
from dit_exp.sweep.partition import UNLIMITED
from dit_exp.sweep.partition import limit_minutes as partition_limit
from dit_exp.sweep.summary import PLAN_FILE
from dit_exp.task import measure
from dit_exp.task.curve import images_between
from dit_exp.task.generate import GRID, check_batch_size
from dit_exp.task.parts import Parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """memory_gib is the measured peak, None where it is not known; held_gib weights, gradients, optimizer and
    EMA alone.

    score_minutes are of the validation losses and of drawing the grids and the images that are scored.
    `limit_minutes` and `cost` are None where nothing was said of them. `change` says what would make a run
    fit that does not.
    """

    parameters: int
    gmac: float
    memory_gib: float | None
    held_gib: float
    images_per_second: float
    steps: int
    images: int
    train_minutes: float
    score_minutes: float
    total_minutes: float
    limit_minutes: float | None
    cost: float | None
    fits: bool
    change: str | None


@dataclass(frozen=True)
class Extra:
    """What task=train does beside training, by its own keys."""

    score_every: int = 0
    score_epochs: float = 0.0
    score_samples: int | None = None
    validation_images: int = 0


def plan(
    parts: Parts,
    steps: int = 5,
    warmup: int = 3,
    batch_size: int = 16,
    price_per_hour: float = 0.0,
    partition: str | None = None,
    limit_minutes: float | None = None,
    score_every: int = 0,
    score_epochs: float = 0.0,
    score_samples: int | None = None,
    validation_images: int = 0,
) -> float:
    """Measures a few steps, writes plan.json and returns the run's minutes. Trains, saves and logs nothing.

    Every process of a run calls it, the main one writes.

    steps, warmup   training steps that are timed, and taken before them
    batch_size      images of the sampling steps that are timed
    price_per_hour  of what the run runs on; 0 shows no cost
    partition       of Slurm, whose time limit the run must keep
    limit_minutes   a limit in minutes; with `partition` the smaller one holds
    score_every, score_epochs, score_samples, validation_images  as in task=train, whose time is planned
    """
    check_batch_size(batch_size)
    if steps < 1 or warmup < 0:
        raise UserError(f"task.steps={steps} must be at least 1 and task.warmup={warmup} at least 0.")
    if price_per_hour < 0 or (limit_minutes is not None and limit_minutes <= 0):
        raise UserError(
            f"task.price_per_hour={price_per_hour} must be 0 or more and task.limit_minutes={limit_minutes} "
            "above 0."
        )
    limits = [limit_minutes] if limit_minutes is not None else []
    if partition is not None:
        limits.append(partition_limit(partition))
    parts.data.check()
    gmac = count_gmac(parts.model, parts.latent_shape, parts.data.num_classes)
    speed = measure.training(parts, steps, warmup)
    seconds = measure.sampling(parts, batch_size)
    made = estimate(
        parts,
        count_parameters(parts.model),
        gmac,
        speed,
        seconds,
        Extra(score_every, score_epochs, score_samples, validation_images),
        min(limits, default=None),
        price_per_hour,
    )
    if parallel.world().main:
        parts.run_dir.mkdir(parents=True, exist_ok=True)
        path = parts.run_dir / PLAN_FILE
        path.write_text(json.dumps(finite(made), indent=2) + "\n")
        log.info("The plan, %s:\n%s", path, table(made))
    return made.total_minutes


def estimate(
    parts: Parts,
    parameters: int,
    gmac: float,
    speed: measure.Speed,
    seconds_per_sample: float,
    extra: Extra,
    limit: float | None,
    price_per_hour: float,
) -> Plan:
    """From what was measured to the whole run: training to its budget, then its samples.

    speed  of all processes together   seconds_per_sample  of an image that one of them draws
    """
    trainer = parts.trainer
    per_minute = 60 * speed.images_per_second / trainer.batch_size
    last = trainer.steps(parts.data)
    by_steps = last / per_minute if last is not None else math.inf
    by_time = trainer.max_seconds / 60 if trainer.max_seconds is not None else math.inf
    train = min(by_steps, by_time)
    steps = last if last is not None and by_steps <= by_time else int(train * per_minute)
    grids = 1 + (steps // trainer.sample_every if trainer.sample_every else 0)
    count = parts.metrics.num_samples
    every = images_between(parts, extra.score_every, extra.score_epochs)
    between = steps * trainer.batch_size // every if every else 0
    # All processes draw the images that are scored, the main one alone those that are shown.
    drawn = count + between * (count if extra.score_samples is None else extra.score_samples)
    each, shown = seconds_per_sample / parallel.world().size, seconds_per_sample * GRID * grids
    validated = extra.validation_images * (1 + between)
    # A validation is a forward pass, a third of a training step.
    score = (each * drawn + shown + validated / (3 * speed.images_per_second)) / 60
    total = train + score
    fits, images = limit is None or total <= limit, drawn + GRID * grids
    return Plan(
        parameters,
        gmac,
        speed.memory_gib,
        speed.held_gib,
        speed.images_per_second,
        steps,
        steps * trainer.batch_size,
        train,
        score,
        total,
        limit,
        price_per_hour * total / 60 if price_per_hour else None,
        fits,
        None if limit is None or fits else change(limit, total, score, per_minute, images, each),
    )


def change(
    limit: float, total: float, score: float, per_minute: float, drawn: int, seconds_per_sample: float
) -> str:
    """What makes a run fit: the steps that are left after the samples, or fewer samples."""
    text = f"{duration(total)} do not fit into {duration(limit)}. "
    if score < limit:
        text += f"trainer.max_steps={max(1, int((limit - score) * per_minute))} would"
    else:
        kept = max(2, int(0.2 * limit * 60 / seconds_per_sample))
        text += f"Drawing {drawn} samples alone takes longer: lower metrics.num_samples (below {kept}) first"
    return text + "; or run in parts, since a run that is stopped goes on in its run_dir."


def finite(made: Plan) -> dict[str, Any]:
    """The plan as JSON has it: no limit is null."""
    values = asdict(made)
    if made.limit_minutes == UNLIMITED:
        values["limit_minutes"] = None
    return values


def duration(minutes: float) -> str:
    """ "42 s", "12.5 min", "3 h 20 min" or "2 d 4 h"."""
    if minutes < 1.5:
        return f"{60 * minutes:.0f} s"
    if minutes < 90:
        return f"{minutes:.3g} min"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def table(made: Plan) -> str:
    """A line a figure."""
    peak = "" if made.memory_gib is None else f"{made.memory_gib:.2f} GiB at the peak, "
    rows = [
        ("parameters", f"{made.parameters / 1e6:.2f} M"),
        ("GMAC an image", f"{made.gmac:.3g}"),
        ("memory", f"{peak}{made.held_gib:.2f} GiB between steps"),
        ("training", f"{made.images_per_second:,.0f} images/s"),
        ("steps", f"{made.steps:,} ({made.images:,} images)"),
        ("time", f"{duration(made.train_minutes)} training + {duration(made.score_minutes)} sampling"),
        ("total", duration(made.total_minutes)),
    ]
    if made.cost is not None:
        rows.append(("cost", f"{made.cost:.2f}"))
    if made.limit_minutes is not None:
        limit = "none" if made.limit_minutes == UNLIMITED else duration(made.limit_minutes)
        rows.append(("limit", limit))
        rows.append(("fits", "yes" if made.fits else f"no: {made.change}"))
    return "\n".join(f"  {name:14} {text}" for name, text in rows)

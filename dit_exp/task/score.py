"""Scores of a model's samples, never without the protocol they were measured by."""

from __future__ import annotations

from typing import Any

from torch import nn

from dit_exp.task.generate import generate
from dit_exp.task.parts import Parts


def score(parts: Parts, model: nn.Module, batch_size: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Draws metrics.num_samples images and returns ({name: value}, protocol); both empty for metrics=none."""
    count = parts.metrics.num_samples
    if not count:
        return {}, {}
    for samples in generate(parts, model, count, batch_size):
        parts.metrics.update(samples.images)
    scores, protocol = parts.metrics.compute()
    guidance = {k: v for k, v in parts.config["guidance"].items() if not k.startswith("_")}
    return scores, {
        **protocol,
        "data": parts.choices["data"],
        "ema_decay": parts.trainer.ema_decay,
        "sampler": parts.choices["sampler"],
        "nfe": parts.sampler.evaluations,
        "guidance": {"name": parts.choices["guidance"], **guidance},
        "precision": parts.trainer.precision,
        "labels": "balanced" if parts.data.num_classes else "none",
        "seed": parts.seed,
        "batch_size": batch_size,
    }


def leading(scores: dict[str, float], loss: float) -> float:
    """The number a sweep compares runs by: the first score, or the loss where there is none."""
    return next(iter(scores.values()), loss)

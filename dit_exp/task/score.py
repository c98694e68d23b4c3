"""Scores of a model's samples, never without the protocol they were measured by."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from dit_exp.task.generate import Planning, generate
from dit_exp.task.parts import Parts


def score(
    parts: Parts,
    model: nn.Module,
    batch_size: int,
    step: int,
    count: int,
    plan: Planning | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Draws `count` images and returns ({name: value}, protocol); both empty for metrics=none.

    step  training step of the model, for the protocol
    plan  as for `generate`
    Every process draws its share and gets the result.
    """
    if not parts.metrics.num_samples:
        return {}, {}
    encoder_nfe = None
    for samples in generate(parts, model, count, batch_size, plan):
        parts.metrics.update(samples.images, samples.start)
        encoder_nfe = samples.encoder_nfe
    scores, protocol = parts.metrics.compute()
    return scores, {
        **protocol,
        "data": parts.choices["data"],
        "step": step,
        "ema_decay": parts.source["ema_decay"] if parts.source else parts.trainer.ema_decay,
        "nfe": parts.sampler.evaluations,
        **({} if encoder_nfe is None else {"encoder_nfe": encoder_nfe}),
        **{
            group: described(parts, group)
            for group in ("sampler", "grid", "guidance", "process", "objective")
        },
        "precision": parts.trainer.precision,
        "labels": "balanced" if parts.data.num_classes else "none",
        "seed": parts.seed,
        "batch_size": batch_size,
    }


def described(parts: Parts, group: str) -> dict[str, Any]:
    """A choice by name, with its keys and with what is chosen inside its group."""
    node: dict[str, Any] = functools.reduce(lambda outer, key: outer[key], group.split("."), parts.config)
    keys = {k: v for k, v in node.items() if not k.startswith("_") and not isinstance(v, dict)}
    inside = [name for name in parts.choices if name.rpartition(".")[0] == group]
    chosen = {name.rpartition(".")[2]: described(parts, name) for name in inside}
    return {"name": parts.choices[group], **keys, **chosen}


def leading(scores: dict[str, float], loss: float) -> float:
    """The number a sweep compares runs by: the first score, or the loss where there is none."""
    return next(iter(scores.values()), loss)

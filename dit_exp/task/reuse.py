"""The plan by which a run keeps its model's first blocks while it samples, and the measurements behind it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from dit_exp.errors import UserError
from dit_exp.sampler.reuse.network import Silent, Watched, likeness
from dit_exp.sampler.reuse.plan import Plan
from dit_exp.task.parts import Parts
from dit_exp.types.network import Model

Walk = Callable[[Parts, nn.Module, range], Iterator[Tensor]]
"""`generate.trajectory`."""

SEED = 0
"""Of the images that are measured, whatever seed the run draws with: one plan serves them all."""

DRAWN_BY = (
    "model", "attn", "cond", "process", "objective", "autoencoder", "guidance", "grid", "sampler",
)  # fmt: skip
"""Groups on which it depends how alike two evaluations are."""


def plan_of(parts: Parts, model: nn.Module, walk: Walk) -> Plan | None:
    """At which evaluations the model's first blocks are run, None where nothing is kept.

    Raises UserError where the network is not asked once an evaluation.
    """
    return parts.reuse.plan(
        lambda: rehearsed(parts, walk),
        lambda depth, images: similarity(parts, model, walk, depth, images),
    )


class Plans:
    """Plans of weights that change, each made when it is first asked for.

    The newest is remembered, for all that is drawn at its step; the weights are not.
    """

    def __init__(self, parts: Parts, walk: Walk) -> None:
        self.parts, self.walk = parts, walk
        self.made: dict[int, Plan | None] = {}

    def at(self, step: int, model: nn.Module) -> Callable[[], Plan | None]:
        """How the plan is had of a model with its weights of a training step."""

        def plan() -> Plan | None:
            if step not in self.made:
                self.made = {step: plan_of(self.parts, model, self.walk)}
            return self.made[step]

        return plan


def rehearsed(parts: Parts, walk: Walk) -> list[int]:
    """How many images the network is asked of at each evaluation, for one that is drawn: 2 under guidance."""
    silent = Silent(parts.latent_shape[0] * parts.objective.outputs)
    deque(walk(parts, silent, range(1)), maxlen=0)
    if len(silent.batches) != parts.sampler.evaluations:
        raise UserError(
            f"guidance={parts.choices['guidance']} asks the network {len(silent.batches)} times in the "
            f"{parts.sampler.evaluations} evaluations of sampler={parts.choices['sampler']}, and blocks can "
            "be kept only where it asks once each. Pass sampler.reuse=none."
        )
    return silent.batches


def similarity(parts: Parts, model: nn.Module, walk: Walk, depth: int | None, images: int) -> Tensor:
    """How alike the state of the first `depth` blocks is at any two evaluations, float32 (N, N).

    The mean over `images` images, one at a time so that the states of one alone are held. For a checkpoint
    measured once for its weights, grid, sampler with its steps, guidance and depth, then read from the cache.
    """

    def measured() -> Tensor:
        total = torch.zeros(())
        for i in range(images):
            watched = Watched(cast(Model, model), depth)
            deque(walk(replace(parts, seed=SEED), watched, range(i, i + 1)), maxlen=0)
            total = total + likeness(watched.states) / images
        return total.float()

    if parts.source is None:  # weights of a moment of a training, which no one will have again
        return measured()
    drawn_by = {group: parts.config[group] for group in DRAWN_BY}
    drawn_by["sampler"] = {key: value for key, value in drawn_by["sampler"].items() if key != "reuse"}
    facts = [
        "Model.kept",
        drawn_by,
        parts.latent_shape,
        parts.data.num_classes,
        parts.trainer.precision,
        depth,
        images,
    ]
    weights = [fingerprint(network) for network in (model, parts.guide) if network is not None]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + b"".join(weights))
    folder = Path(parts.config["cache"]).expanduser() / "reuse"
    return cached(folder / f"{digest.hexdigest()[:16]}.pt", measured)


def fingerprint(model: nn.Module) -> bytes:
    """SHA-256 of a model's weights: the same for equal ones, from whatever file they are."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()


def cached(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """The tensor in the file, or what is computed, which is then written to it in one stroke.

    Raises UserError where the folder cannot be written.
    """
    if path.exists():
        return torch.load(path, weights_only=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # opened before anything is computed, so that a folder that is read-only fails early
        file = tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False)  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cache: {path.parent} cannot be written: {error}. Pass cache=DIR.") from error
    try:
        with file:
            value = compute()
            torch.save(value, file)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise
    return value

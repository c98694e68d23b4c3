"""Scores and validation loss over a training: a row in curve.jsonl each time they are measured."""

from __future__ import annotations

from typing import Any

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.metrics.names import with_counts
from dit_exp.task.generate import trajectory
from dit_exp.task.parts import Parts
from dit_exp.task.reuse import Plans
from dit_exp.task.score import score
from dit_exp.task.validate import validation_loss
from dit_exp.trainer.history import read_rows, write_rows
from dit_exp.trainer.state import TrainState

CURVE_FILE = "curve.jsonl"


def images_between(parts: Parts, score_every: int, score_epochs: float) -> int:
    """Training images between two scores, 0 for a score at the end alone.

    score_every, score_epochs  the same in steps or in passes over the training images; one of them is 0
    """
    if min(score_every, score_epochs) < 0 or (score_every and score_epochs):
        raise UserError(
            f"task.score_every={score_every} and task.score_epochs={score_epochs} are one thing in two "
            "units. Set one of them from 0, and the other to 0."
        )
    if score_epochs:
        return max(1, round(score_epochs * parts.data.size("train")))
    return score_every * parts.trainer.batch_size


class Curve:
    """Measures states of a run and keeps {step, images, minutes, validation_loss or None, n, scores} of each.

    batch_size         images drawn at once
    validation_images  held-out images for the loss, 0 for none
    plans              by which blocks are kept, for whatever else is drawn of a state too
    Every process calls `measure`, the main one writes.
    """

    def __init__(self, parts: Parts, batch_size: int, validation_images: int) -> None:
        self.parts, self.batch_size, self.validation_images = parts, batch_size, validation_images
        self.path, self.plans = parts.run_dir / CURVE_FILE, Plans(parts, trajectory)
        self.newest: tuple[dict[str, Any], dict[str, Any]] | None = None

    def measure(self, state: TrainState, samples: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The row and the protocol of a state scored by `samples` images; once measured, as it was."""
        if self.newest and (self.newest[0]["step"], self.newest[0]["n"]) == (state.step, samples):
            return self.newest
        parts, model = self.parts, state.weights
        loss = validation_loss(parts, model, self.validation_images) if self.validation_images else None
        plan = self.plans.at(state.step, model)
        scores, protocol = score(parts, model, self.batch_size, state.step, samples, plan)
        row = {
            "step": state.step,
            "images": state.images,
            "minutes": state.seconds / 60,
            "validation_loss": loss,
            "n": protocol.get("n", 0),
            "scores": scores,
        }
        if parallel.world().main:
            write_rows([*(r for r in read_rows(self.path) if r["step"] < state.step), row], self.path)
        values = with_counts(scores, protocol)
        parts.tracker.log(values if loss is None else {**values, "validation_loss": loss}, state.step)
        self.newest = row, protocol
        return self.newest

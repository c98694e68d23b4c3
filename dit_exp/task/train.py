"""task=train: train, draw a grid, score, log, return the metric."""

from __future__ import annotations

import logging

import torch
from torch import nn

from dit_exp.errors import UserError
from dit_exp.nn.count import count_gmac, count_parameters
from dit_exp.sampler.denoise import on_process_time
from dit_exp.task import record
from dit_exp.task.generate import check_batch_size, draw_grid, draw_progress
from dit_exp.task.parts import Parts
from dit_exp.task.score import leading, score, with_counts
from dit_exp.trainer.history import plot_loss
from dit_exp.trainer.state import TrainState
from dit_exp.types import Network

log = logging.getLogger(__name__)


def train(parts: Parts, batch_size: int = 250) -> float:
    """Trains to the budget and returns the first score, or the loss where metrics=none.

    batch_size  images drawn at once when sampling
    """
    if parts.source is not None:
        raise UserError(
            "checkpoint= is for task=sample and task=evaluate. To go on with a run, pass its run_dir."
        )
    check_batch_size(batch_size)
    parts.data.check()
    with record.recorded(parts):
        return _train(parts, batch_size)


def _train(parts: Parts, batch_size: int) -> float:
    run_dir, tracker = parts.run_dir, parts.tracker
    parts.metrics.prepare(parts.data)  # what it lacks is said before the training, not after
    parameters = count_parameters(parts.model)
    gmac = count_gmac(parts.model, parts.latent_shape, parts.data.num_classes)
    log.info("%.2f M parameters, %.3f GMAC an image, in %s", parameters / 1e6, gmac, run_dir)

    def network(model: nn.Module) -> Network:
        return on_process_time(model, parts.process)

    def preview(state: TrainState) -> None:
        with torch.random.fork_rng():
            draw_grid(parts, state.weights, run_dir / "samples.png")
        tracker.image("samples", run_dir / "samples.png", state.step)

    state, history = parts.trainer.fit(
        parts.model,
        network,
        parts.objective,
        parts.autoencoder,
        parts.data,
        parts.optimizer,
        tracker,
        run_dir,
        parts.seed,
        parts.config,
        parts.choices,
        preview,
    )
    preview(state)
    draw_progress(parts, state.weights, run_dir / "progress.png")
    plot_loss(history.rows, run_dir / "loss.png")
    for name in ("progress", "loss"):
        tracker.artifact(run_dir / f"{name}.png")
    scores, protocol = score(parts, state.weights, batch_size, state.step)
    loss = history.mean_loss()
    values = {
        "steps": state.step,
        "images": state.images,
        "loss": loss,
        "images_per_second": state.images / max(state.seconds, 1e-9),
        "minutes": state.seconds / 60,
        "parameters": parameters,
        "gmac": gmac,
        "scores": scores,
        "protocol": protocol,
    }
    tracker.log({"gmac": gmac, "parameters": float(parameters), "final_loss": loss}, state.step)
    tracker.log(with_counts(scores, protocol), state.step)
    record.write_metrics(parts, values)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    log.info("Step %d, loss %.4f%s", state.step, loss, f", {figures}" if figures else "")
    log.info("Samples: %s", run_dir / "samples.png")
    return leading(scores, loss)

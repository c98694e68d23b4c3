"""task=train: train, draw a grid, score, log, return the metric."""

from __future__ import annotations

import logging

import torch
from torch import nn

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.nn.count import count_gmac, count_parameters
from dit_exp.sampler.denoise import on_process_time
from dit_exp.task import record
from dit_exp.task.curve import Curve, images_between
from dit_exp.task.generate import check_batch_size, draw_comparison, draw_grid, draw_progress
from dit_exp.task.parts import Parts
from dit_exp.task.score import leading
from dit_exp.task.validate import check_size
from dit_exp.trainer.history import plot_loss
from dit_exp.trainer.state import TrainState
from dit_exp.types.network import Network

log = logging.getLogger(__name__)


def train(
    parts: Parts,
    batch_size: int = 250,
    score_every: int = 0,
    score_epochs: float = 0.0,
    score_samples: int | None = None,
    validation_images: int = 0,
) -> float:
    """Trains to the budget and returns the first score, or the loss where metrics=none.

    batch_size         images drawn at once when sampling
    score_every        steps between scores during the training, 0 for one at the end alone
    score_epochs       the same in passes over the training images
    score_samples      images of each of those; None takes metrics.num_samples
    validation_images  held-out images for the validation loss, measured with each score; 0 for none
    """
    if parts.source is not None:
        raise UserError(
            "checkpoint= is for task=sample and task=evaluate. To go on with a run, pass its run_dir."
        )
    check_batch_size(batch_size)
    if score_samples is not None and score_samples < 2:
        raise UserError(f"task.score_samples={score_samples} must be 2 or more.")
    parts.data.check()
    between = images_between(parts, score_every, score_epochs)
    check_size(parts, validation_images)
    with record.recorded(parts):
        curve = Curve(parts, batch_size, validation_images)
        return _train(parts, curve, between, score_samples)


def _train(parts: Parts, curve: Curve, between: int, score_samples: int | None) -> float:
    run_dir, tracker = parts.run_dir, parts.tracker
    main = parallel.world().main
    parts.metrics.prepare(parts.data)  # what it lacks is said before the training, not after
    parameters = count_parameters(parts.model)
    gmac = count_gmac(parts.model, parts.latent_shape, parts.data.num_classes)
    log.info("%.2f M parameters, %.3f GMAC an image, in %s", parameters / 1e6, gmac, run_dir)

    def network(model: nn.Module) -> Network:
        return on_process_time(model, parts.process)

    def preview(state: TrainState) -> None:
        weights = state.weights
        if main:
            with torch.random.fork_rng():
                plan = curve.plans.at(state.step, weights)
                draw_grid(parts, weights, run_dir / "samples.png", plan)
            tracker.image("samples", run_dir / "samples.png", state.step)

    def measure(state: TrainState) -> None:
        curve.measure(state, parts.metrics.num_samples if score_samples is None else score_samples)

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
        ((parts.trainer.sample_every * parts.trainer.batch_size, preview), (between, measure)),
        parts.augment,
        parts.alignment,
    )
    preview(state)
    weights = state.weights
    if main:
        plan = curve.plans.at(state.step, weights)
        draw_progress(parts, weights, run_dir / "progress.png", plan)
        draw_comparison(parts, weights, run_dir / "comparison.png", plan)
        plot_loss(history.rows, run_dir / "loss.png")
        for name in ("progress", "comparison", "loss"):
            tracker.artifact(run_dir / f"{name}.png")
    row, protocol = curve.measure(state, parts.metrics.num_samples)
    scores, loss, source = row["scores"], history.mean_loss(), parts.alignment.source
    values = {
        "steps": state.step,
        "images": state.images,
        "loss": loss,
        "images_per_second": state.images / max(state.seconds, 1e-9),
        "minutes": state.seconds / 60,
        "parameters": parameters,
        "gmac": gmac,
        "memory_gib": state.memory_gib,
        "processes": parallel.world().size,
        "validation_loss": row["validation_loss"],
        "scores": scores,
        "protocol": protocol,
        "aligned_to": source or None,
    }
    if source and source["sha256"] == protocol.get("extractor_hash"):
        log.warning(
            "These scores are of %s, which the model was aligned to: they compare with those of runs aligned "
            "to it alone. Choose another teacher or other metrics.",
            source["teacher"],
        )
    tracker.log({"gmac": gmac, "parameters": float(parameters), "final_loss": loss}, state.step)
    tracker.artifact(curve.path)
    record.write_metrics(parts, values)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    log.info("Step %d, loss %.4f%s", state.step, loss, f", {figures}" if figures else "")
    log.info("Samples: %s", run_dir / "samples.png")
    return leading(scores, loss)

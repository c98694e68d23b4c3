"""task=autoencoder: train a first stage, score what it gives back, measure its latents' scale."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dit_exp import checkpoint, parallel
from dit_exp.autoencoder.convolutional import Convolutional
from dit_exp.autoencoder.identity import Identity
from dit_exp.data import spaced
from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.nn.count import count_parameters
from dit_exp.objective.reconstruction import Discriminator, Perceptual, Reading, Reconstruction
from dit_exp.seeds import mix
from dit_exp.task import record
from dit_exp.task.generate import check_batch_size
from dit_exp.task.parts import Stage
from dit_exp.task.reconstruct import Fidelity, draw_reconstructions
from dit_exp.trainer.history import plot_loss, read_rows, write_rows
from dit_exp.trainer.state import TrainState

CODEBOOK_FILE = "codebook.jsonl"

ALARM = 0.05
"""The share of codes below which a codebook has collapsed, though the loss may look fine."""

log = logging.getLogger(__name__)


def autoencoder(
    stage: Stage,
    perceptual: Callable[[], Any],
    discriminator: Callable[[], Any],
    exponent: float = 1.0,
    images: int = 1000,
    batch_size: int = 50,
    score_every: int = 0,
    codebook_every: int = 0,
    scale_images: int = 10_000,
) -> float:
    """Trains to the budget and returns the first score, or the loss where metrics=none.

    exponent        of the pixels' error: 1 for L1, 2 for L2
    images          held-out images, evenly spaced, that are reconstructed and scored
    batch_size      of them at once
    score_every     steps between scores during the training, 0 for one at the end alone
    codebook_every  steps between readings of the codebook's use, when unused codes are restarted; 0: an epoch
    scale_images    training images, evenly spaced, whose latents' mean and standard deviation are stored with
                    the weights
    """
    check_batch_size(batch_size)
    data, trainer, model = stage.data, stage.trainer, stage.autoencoder
    assert isinstance(model, Convolutional)  # build.py refuses others
    if exponent <= 0 or score_every < 0 or codebook_every < 0 or scale_images < 1:
        raise UserError(
            "task.exponent must be above 0, task.score_every and task.codebook_every 0 or more, and "
            "task.scale_images at least 1."
        )
    if trainer.compile or trainer.strategy != "ddp":
        raise UserError(
            "task=autoencoder trains two networks whose gradients meet at one weight and a codebook that "
            "changes as it is used: leave trainer.compile=false and trainer.strategy=ddp."
        )
    data.check()
    if not 2 <= images <= (size := data.size(data.held_out)):
        raise UserError(
            f"task.images={images}, but the {data.held_out} split has {size} images. Choose 2 to {size}."
        )
    torch.manual_seed(mix("initial weights of the losses", stage.seed))
    seeing: Perceptual = perceptual().to(stage.device)
    judge: Discriminator = discriminator().to(stage.device)
    epoch = max(1, data.size("train") // trainer.batch_size)
    with record.recorded(stage):
        return _train(
            stage,
            model,
            Reconstruction(model, exponent, seeing, judge, codebook_every or epoch, _reporter(stage)),
            Fidelity(stage, images, batch_size),
            score_every,
            scale_images,
        )


def _train(
    stage: Stage,
    model: Convolutional,
    objective: Reconstruction,
    fidelity: Fidelity,
    score_every: int,
    scale_images: int,
) -> float:
    run_dir, tracker, main = stage.run_dir, stage.tracker, parallel.world().main
    fidelity.prepare()  # what it lacks is said before the training, not after
    parameters, batch = count_parameters(model), stage.trainer.batch_size
    shape = "x".join(map(str, model.latent_shape(stage.data.image_shape)))
    log.info("%.2f M parameters, latents %s, in %s", parameters / 1e6, shape, run_dir)
    log.info("Perceptual loss: %s.", objective.perceptual.name)

    def preview(state: TrainState) -> None:
        if main:
            draw_reconstructions(stage, state.weights, run_dir / "reconstructions.png")
        tracker.image("reconstructions", run_dir / "reconstructions.png", state.step)

    def measure(state: TrainState) -> None:
        fidelity.measure(state)
        tracker.log({f"{name}_loss": value for name, value in objective.means().items()}, state.step)

    state, history = stage.trainer.fit(
        model,
        lambda module: module,
        objective,
        Identity(),
        stage.data,
        stage.optimizer,
        tracker,
        run_dir,
        stage.seed,
        stage.config,
        stage.choices,
        ((stage.trainer.sample_every * batch, preview), (score_every * batch, measure)),
    )
    preview(state)
    measure(state)
    weights = state.weights.eval()
    assert isinstance(weights, Convolutional)
    if main:
        weights.measure(_training_images(stage, scale_images))
        _leave(stage, weights, state)
        plot_loss(history.rows, run_dir / "loss.png")
        tracker.artifact(run_dir / "loss.png")
        if (run_dir / CODEBOOK_FILE).exists():
            tracker.artifact(run_dir / CODEBOOK_FILE)
    row, protocol = fidelity.measure(state)
    loss = history.mean_loss()
    values = {
        "steps": state.step,
        "images": state.images,
        "loss": loss,
        "images_per_second": state.images / max(state.seconds, 1e-9),
        "minutes": state.seconds / 60,
        "parameters": parameters,
        "perceptual": objective.perceptual.name,
        "latent_mean": weights.mean.flatten().tolist(),
        "latent_std": weights.std.flatten().tolist(),
        "scores": row["scores"],
        "protocol": protocol,
    }
    tracker.log({"parameters": float(parameters), "final_loss": loss}, state.step)
    tracker.artifact(fidelity.path)
    record.write_metrics(stage, values)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in row["scores"].items())
    log.info("Step %d, loss %.4f, %s", state.step, loss, figures)
    log.info("Use it: autoencoder.checkpoint=%s", run_dir)
    return next(iter(row["scores"].values()))


def _training_images(stage: Stage, count: int) -> Iterator[Tensor]:
    for piece in spaced.images(stage.data, "train", count, 50):
        yield to_model_range(piece.to(stage.device))


def _leave(stage: Stage, weights: Convolutional, state: TrainState) -> None:
    """Writes what `autoencoder.checkpoint=` reads; in the main process alone."""
    left = {
        "config": stage.config,
        "choices": stage.choices,
        "step": state.step,
        "images": state.images,
        "model": weights.state_dict(),
    }
    path = stage.run_dir / checkpoint.AUTOENCODER
    try:
        checkpoint.save(left, path, keep=1)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error}). Make room, then run the same command with "
            f"run_dir={stage.run_dir}: the training is saved."
        ) from error


def _reporter(stage: Stage) -> Callable[[Reading], None]:
    """What is done with a reading of the codebook: a row in codebook.jsonl, the tracker, and an alarm."""
    path = stage.run_dir / CODEBOOK_FILE

    def report(reading: Reading) -> None:
        if not parallel.world().main:
            return
        row = {**reading._asdict(), "images": reading.step * stage.trainer.batch_size}
        write_rows([*(r for r in read_rows(path) if r["step"] < reading.step), row], path)
        share = reading.used / reading.codes
        values = {"codes_used": share, "perplexity": reading.perplexity, "restarted": reading.restarted}
        stage.tracker.log({f"codebook_{name}": float(value) for name, value in values.items()}, reading.step)
        text = "Step %d: %.1f %% of %d codes used, perplexity %.0f, %d restarted."
        log.info(text, reading.step, 100 * share, reading.codes, reading.perplexity, reading.restarted)
        if share < ALARM:
            log.warning(
                "The codebook has collapsed: %d of %d codes are used, and the loss does not show it. Lower "
                "autoencoder.codebook_size or task.codebook_every, or use autoencoder=fsq.",
                reading.used,
                reading.codes,
            )

    return report

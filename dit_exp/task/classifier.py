"""task=classifier: train a classifier of noisy images, for guidance=classifier."""

from __future__ import annotations

import logging

from torch import nn

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.nn.count import count_parameters
from dit_exp.sampler.denoise import on_process_time
from dit_exp.task import record
from dit_exp.task.parts import Parts
from dit_exp.task.validate import accuracy
from dit_exp.trainer.history import plot_loss
from dit_exp.types.network import Network

log = logging.getLogger(__name__)


def classifier(parts: Parts, validation_images: int) -> float:
    """Trains to the budget and returns the loss, the cross-entropy in nats over all times.

    validation_images  at most so many held-out images are then named by their classes; 0 for none
    The run directory is then what guidance.checkpoint= takes.
    """
    if parts.source is not None:
        raise UserError("checkpoint= is not for task=classifier. To go on with a run, pass its run_dir.")
    parts.data.check()
    images = min(validation_images, parts.data.size(parts.data.held_out))

    def network(model: nn.Module) -> Network:
        return on_process_time(model, parts.process)

    with record.recorded(parts):
        state, history = parts.trainer.fit(
            parts.model,
            network,
            parts.objective,
            parts.autoencoder,
            parts.data,
            parts.optimizer,
            parts.tracker,
            parts.run_dir,
            parts.seed,
            parts.config,
            parts.choices,
            (),
            parts.augment,
            parts.alignment,
        )
        if parallel.world().main:
            plot_loss(history.rows, parts.run_dir / "loss.png")
        parts.tracker.artifact(parts.run_dir / "loss.png")
        loss = history.mean_loss()
        parts.tracker.log({"final_loss": loss}, state.step)
        values = {
            "steps": state.step,
            "images": state.images,
            "loss": loss,
            "minutes": state.seconds / 60,
            "parameters": count_parameters(parts.model),
        }
        if images > 0:
            named = accuracy(parts, state.weights, images)
            parts.tracker.log({f"accuracy_fifth_{i}": share for i, share in enumerate(named, 1)}, state.step)
            values["accuracy"] = named
            log.info("Held-out accuracy from little to much noise: %s", " ".join(f"{a:.3f}" for a in named))
        record.write_metrics(parts, values)
    log.info("Step %d, loss %.4f. Guide with it: guidance.checkpoint=%s", state.step, loss, parts.run_dir)
    return loss

"""The error on images that were not trained on, with noise and times that never change.

It is the prediction's plain squared error, whatever the training's weighting, and falls smoothly where a
distance of samples is noisy, so scaling laws are fitted to it.
"""

from __future__ import annotations

import torch
from torch import nn

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.objective.prediction import per_image
from dit_exp.sampler.denoise import on_process_time
from dit_exp.seeds import ImageNoise
from dit_exp.task.parts import Parts
from dit_exp.trainer.loop import autocast, encoded

PIECE = 100
"""Images in a pass: fixed, since what a matrix product rounds depends on the shape of its batch."""

GOLDEN = (5**0.5 - 1) / 2
SEED = 0
"""Of the noise: the same for runs of all seeds, whose losses are compared."""


def check_size(parts: Parts, images: int) -> None:
    """Raises UserError for more images than are held out; called before a training, not after."""
    if images < 0:
        raise UserError(f"task.validation_images={images} must be 0 or more.")
    if images and images > (size := parts.data.size(parts.data.held_out)):
        raise UserError(
            f"task.validation_images={images}, but the {parts.data.held_out} split has {size} images."
        )


@torch.no_grad()
def validation_loss(parts: Parts, model: nn.Module, images: int) -> float:
    """Mean squared error over the first `images` held-out images; every process takes its share.

    Image i has noise from the stream i, from which an autoencoder that draws its latent draws next, and time
    i * golden ratio mod 1, which covers [0, 1) evenly for any number of images.
    """
    model.eval()
    split, here = parts.data.held_out, parallel.world()
    network = on_process_time(model, parts.process)
    labels = parts.data.labels(split)
    held_out = torch.cat(list(parts.data.examples(split, images)))
    sums: dict[int, float] = {}
    for start in range(here.rank * PIECE, images, here.size * PIECE):
        index = range(start, min(start + PIECE, images))
        draw = ImageNoise(SEED, index, parts.latent_shape, parts.device)
        label = labels[index.start : index.stop].to(parts.device) if labels is not None else None
        noise = draw()
        x0 = encoded(parts.autoencoder, held_out[index.start : index.stop].to(parts.device), draw)
        u = torch.tensor([i * GOLDEN % 1 for i in index], dtype=torch.float32, device=parts.device)
        t = parts.process.times(1 - u)
        alpha, sigma = (per_image(v, x0) for v in parts.process.coefficients(t))
        x_t = alpha * x0 + sigma * noise
        with autocast(parts.device, parts.trainer.precision):
            out = network(x_t, t, label)[:, : x0.shape[1]].float()  # without a learned variance
        sums[start] = float(parts.objective.distance(out, x0, noise, t).double().sum())
    whole = {start: value for piece in parallel.gathered(sums) for start, value in piece.items()}
    return sum(whole[start] for start in sorted(whole)) / images

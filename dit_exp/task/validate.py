"""The error on images that were not trained on, with noise and times that never change.

It is the prediction's plain squared error, whatever the training's weighting, and falls smoothly where a
distance of samples is noisy, so scaling laws are fitted to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dit_exp import parallel
from dit_exp.data.decoded import decode_once
from dit_exp.errors import UserError
from dit_exp.objective.prediction import per_image
from dit_exp.sampler.denoise import on_process_time
from dit_exp.seeds import ImageNoise
from dit_exp.task.parts import Parts
from dit_exp.trainer.batch import encoded
from dit_exp.trainer.loop import autocast

PIECE = 100
"""Images in a pass: fixed, since what a matrix product rounds depends on the shape of its batch."""

GOLDEN = (5**0.5 - 1) / 2
FIFTHS = 5

Found = TypeVar("Found")

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


class _Noised(NamedTuple):
    """A piece of the held-out images: its first index, x0, noise and x_t (B, C, h, w), u and t (B,)."""

    start: int
    x0: Tensor
    label: Tensor | None
    noise: Tensor
    u: Tensor
    t: Tensor
    x_t: Tensor


def _noised(parts: Parts, images: int) -> Iterator[_Noised]:
    """This process's pieces of the first `images` held-out images.

    Image i has noise from the stream i, from which an autoencoder that draws its latent draws next, and time
    u = i * golden ratio mod 1, which covers [0, 1) evenly for any number of images.
    """
    split, here = parts.data.held_out, parallel.world()
    decode_once(parts.data, split)
    labels = parts.data.labels(split)
    held_out = torch.cat(list(parts.data.examples(split, images)))
    for start in range(here.rank * PIECE, images, here.size * PIECE):
        index = range(start, min(start + PIECE, images))
        draw = ImageNoise(SEED, index, parts.latent_shape, parts.device)
        label = labels[index.start : index.stop].to(parts.device) if labels is not None else None
        noise = draw()
        image = held_out[index.start : index.stop].to(parts.device)
        x0 = encoded(parts.autoencoder, image, noise=draw).x0
        u = torch.tensor([i * GOLDEN % 1 for i in index], dtype=torch.float32, device=parts.device)
        t = parts.process.times(1 - u)
        alpha, sigma = (per_image(v, x0) for v in parts.process.coefficients(t))
        yield _Noised(start, x0, label, noise, u, t, alpha * x0 + sigma * noise)


def _ordered(found: dict[int, Found]) -> list[Found]:
    """What all processes found of their pieces, in the order of the images."""
    whole = {start: value for piece in parallel.gathered(found) for start, value in piece.items()}
    return [whole[start] for start in sorted(whole)]


@torch.no_grad()
def validation_loss(parts: Parts, model: nn.Module, images: int) -> float:
    """Mean squared error over the first `images` held-out images; every process takes its share."""
    model.eval()
    network = on_process_time(model, parts.process)
    sums: dict[int, float] = {}
    for piece in _noised(parts, images):
        with autocast(parts.device, parts.trainer.precision):
            out = network(piece.x_t, piece.t, piece.label)[:, : piece.x0.shape[1]].float()  # no variance
        distance = parts.objective.distance(out, piece.x0, piece.noise, piece.t)
        sums[piece.start] = float(distance.double().sum())
    return sum(_ordered(sums)) / images


@torch.no_grad()
def accuracy(parts: Parts, model: nn.Module, images: int) -> list[float]:
    """Share of the first `images` held-out images whose class a classifier names, from the least noisy fifth
    of the training times to the noisiest.
    """
    model.eval()
    network = on_process_time(model, parts.process)
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for piece in _noised(parts, images):
        assert piece.label is not None
        with autocast(parts.device, parts.trainer.precision):
            right = network(piece.x_t, piece.t, None).argmax(1) == piece.label
        found[piece.start] = ((1 - piece.u).cpu(), right.cpu())
    times, rights = (torch.cat(column) for column in zip(*_ordered(found), strict=True))
    fifth = (times * FIFTHS).long().clamp(max=FIFTHS - 1)
    return [float(rights[fifth == i].double().mean()) for i in range(FIFTHS)]

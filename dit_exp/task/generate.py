"""Images from a trained model: seeds and labels in, uint8 out.

Image i has label i mod classes and noise from the stream (seed, i). Images pass in fixed pieces of
`batch_size`, every process draws its share of them, and which one draws a piece changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.images import save_grid, to_uint8
from dit_exp.nn.narrow import drawing
from dit_exp.sampler.denoise import Denoise, on_process_time
from dit_exp.sampler.reuse.network import following
from dit_exp.sampler.reuse.plan import Plan
from dit_exp.seeds import ImageNoise
from dit_exp.task.parts import Parts
from dit_exp.task.reuse import Plans
from dit_exp.trainer.loop import autocast
from dit_exp.types.data import DataSet

GRID = 40
COLUMNS = 10
DECODED = 50
"""Latents decoded at once: an image takes far more memory on its way out of a decoder than its latent."""


Planning = Callable[[], Plan | None]
"""How a plan is had by which blocks are kept; what takes one makes its own where it is given none."""


@dataclass
class Samples:
    """Images `start`, start + 1 and so on: `images` uint8 (b, C, H, W); `labels` (b,) or None.

    encoder_nfe  at how many evaluations the first blocks were run, None where they are not run apart
    """

    start: int
    images: Tensor
    labels: Tensor | None
    encoder_nfe: int | None = None


def check_batch_size(batch_size: int) -> None:
    """Raises UserError for a number of images at once that is none; called before a training, not after."""
    if batch_size < 1:
        raise UserError(f"task.batch_size={batch_size} must be at least 1.")


def labels_of(indices: range, classes: int) -> Tensor | None:
    """Balanced labels, int64 (n,): image i is of class i mod classes."""
    return torch.tensor([i % classes for i in indices]) if classes else None


@torch.no_grad()
def trajectory(parts: Parts, model: nn.Module, indices: range) -> Iterator[Tensor]:
    """The latents of images on their way from noise to sample, float32 (b, C, h, w), the noise first."""
    model.eval()
    label = labels_of(indices, parts.data.num_classes)
    noise = ImageNoise(parts.seed, indices, parts.latent_shape, parts.device)
    denoise = Denoise(
        on_process_time(model, parts.process),
        parts.objective,
        parts.guidance,
        label.to(parts.device) if label is not None else None,
        parts.autoencoder.bounds if parts.sampler.clip else None,
    )
    x = parts.process.prior_scale * noise()
    yield x
    with autocast(parts.device, parts.trainer.precision):
        times = parts.grid(parts.process, parts.sampler.steps)
        for state, _ in parts.sampler.trajectory(denoise, x, parts.process, noise, times):
            yield state


def planning(parts: Parts, model: nn.Module) -> Planning:
    """How the plan is had of weights that do not change: it is made when it is first asked for, and once."""
    return Plans(parts, trajectory).at(0, model)


def generate(
    parts: Parts, model: nn.Module, count: int, batch_size: int, plan: Planning | None = None
) -> Iterator[Samples]:
    """This process's share of the images 0 to count - 1, in pieces."""
    from tqdm import tqdm

    here = parallel.world()
    shown = None if here.main else True
    made = parallel.from_main(plan or planning(parts, model))
    runs, model = len(made.runs) if made else None, drawing(model, parts.trainer.precision, parts.device)
    with tqdm(total=count // here.size, unit="img", desc="sampling", disable=shown, leave=False) as bar:
        for start in range(here.rank * batch_size, count, here.size * batch_size):
            # Every piece is full: what a matrix product rounds depends on the shape of its batch.
            indices = range(start, start + batch_size)
            network = following(model, made, parts.trainer.compile_sampling)
            [x] = deque(trajectory(parts, network, indices), maxlen=1)
            kept = min(batch_size, count - start)
            labels = labels_of(indices[:kept], parts.data.num_classes)
            yield Samples(start, decode(parts, x)[:kept], labels, runs)
            bar.update(kept)


@torch.no_grad()
def decode(parts: Parts, latent: Tensor) -> Tensor:
    """Latents (b, C, h, w) -> uint8 images (b, 3, H, W) on the CPU."""
    return torch.cat([to_uint8(parts.autoencoder.decode(piece)).cpu() for piece in latent.split(DECODED)])


def draw_grid(parts: Parts, model: nn.Module, path: Path, plan: Planning | None = None) -> None:
    """Writes 40 samples as a grid, ten a row, class names below: with ten classes a column is a class."""
    indices = range(GRID)
    network = following(model, (plan or planning(parts, model))())
    [x] = deque(trajectory(parts, network, indices), maxlen=1)
    names, classes = parts.data.class_names, labels_of(indices, parts.data.num_classes)
    labels = [names[int(i)] for i in classes] if classes is not None else None
    save_grid(decode(parts, x), path, COLUMNS, labels)


def draw_comparison(
    parts: Parts, model: nn.Module, path: Path, plan: Planning | None = None, pairs: int = 2
) -> None:
    """Writes rows of ten training images and below each one of ten samples of the same classes."""
    indices = range(pairs * COLUMNS)
    network = following(model, (plan or planning(parts, model))())
    [x] = deque(trajectory(parts, network, indices), maxlen=1)
    drawn, classes = decode(parts, x), labels_of(indices, parts.data.num_classes)
    real = training_images(parts.data, classes, len(indices))
    both = torch.stack([v.unflatten(0, (pairs, COLUMNS)) for v in (real, drawn)], dim=1)
    labels = None
    if classes is not None:
        names = [parts.data.class_names[int(i)] for i in classes]
        labels = [n for row in range(pairs) for n in 2 * names[row * COLUMNS : (row + 1) * COLUMNS]]
    save_grid(both.flatten(0, 2), path, COLUMNS, labels, rows=["real", "generated"] * pairs)


def training_images(data: DataSet, classes: Tensor | None, count: int) -> Tensor:
    """`count` images of the training split, uint8: the first ones of the classes (count,), in their order.

    Where there are fewer they come again, and a class without images is shown white.
    """
    labels = data.labels("train") if classes is not None else None
    wanted = [0] * count if classes is None else classes.tolist()
    labels = torch.zeros(data.size("train"), dtype=torch.long) if labels is None else labels
    own = {i: (labels == i).nonzero().flatten().tolist() for i in set(wanted)}
    positions = [own[c][wanted[:i].count(c) % len(own[c])] if own[c] else -1 for i, c in enumerate(wanted)]
    found = {-1: torch.full(data.image_shape, 255, dtype=torch.uint8)}
    start = 0
    for piece in data.images("train", max(positions) + 1):  # the split may be larger than the memory
        found |= {p: piece[p - start] for p in positions if start <= p < start + len(piece)}
        start += len(piece)
    return torch.stack([found[p] for p in positions])


def draw_progress(
    parts: Parts, model: nn.Module, path: Path, plan: Planning | None = None, rows: int = 4
) -> None:
    """Writes the denoising of the first images as a strip, from noise on the left to the sample."""
    network = following(model, (plan or planning(parts, model))())
    steps = list(trajectory(parts, network, range(rows)))
    columns = min(COLUMNS, len(steps))
    kept = [steps[round(i * (len(steps) - 1) / (columns - 1))] for i in range(columns)]
    images = torch.stack([decode(parts, x) for x in kept], dim=1)
    save_grid(images.flatten(0, 1), path, columns)

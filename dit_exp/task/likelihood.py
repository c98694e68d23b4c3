"""task=likelihood checkpoint=PATH: bits per dimension of held-out images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Generator, Tensor

from dit_exp import parallel
from dit_exp.autoencoder.identity import Identity
from dit_exp.data.decoded import decode_once
from dit_exp.errors import UserError
from dit_exp.grid.karras import Karras
from dit_exp.guidance.none import NoGuidance
from dit_exp.images import to_model_range
from dit_exp.metrics.names import with_counts
from dit_exp.sampler.denoise import Denoise, on_process_time
from dit_exp.sampler.likelihood import log_likelihood
from dit_exp.seeds import streams
from dit_exp.task import record
from dit_exp.task.generate import check_batch_size
from dit_exp.task.parts import Parts, trained
from dit_exp.task.score import described
from dit_exp.types.diffusion import DiscreteSteps

log = logging.getLogger(__name__)

Probe = Callable[[Sequence[int], Generator], Tensor]

NAME = "bits_per_dimension"


def likelihood(
    parts: Parts,
    probe: Probe,
    images: int = 100,
    steps: int = 100,
    probes: int = 1,
    sigma_min: float = 0.002,
    batch_size: int = 100,
) -> float:
    """Writes metrics.json and returns the mean bits per dimension, in float32 whatever the training used.

    images      held-out images, the first ones
    steps       Heun steps of the ODE, even in (sigma / alpha)^(1/7) as EDM's
    probes      for each image, made by `probe`
    sigma_min   sigma / alpha at which the ODE starts; the nearest step of a discrete process
    batch_size  images at once, which changes no more than rounding does

    Every process computes its share of the images.
    """
    source = trained(parts)
    check(parts, images, steps, probes, sigma_min)
    check_batch_size(batch_size)
    times = Karras(sigma_min, max(80.0, 2 * sigma_min))(parts.process, steps + 1)[:-1]
    with record.recorded(parts):
        parts.model.eval()
        bits = measured(parts, times, probe, images, probes, batch_size)
        mean, error = float(bits.mean()), float(bits.std() / math.sqrt(images))
        protocol = {
            "n": images,
            "data": parts.choices["data"],
            "split": parts.data.held_out,
            "images": parts.data.identity(parts.data.held_out),
            "step": source["step"],
            "ema_decay": source["ema_decay"],
            "nfe": 2 * steps,
            "probe": described(parts, "probe"),
            "probes": probes,
            "sigma_min": sigma_min,
            "dequantisation": "uniform",
            **{group: described(parts, group) for group in ("process", "objective")},
            "precision": "fp32",
            "labels": "of the images" if parts.data.num_classes else "none",
            "seed": parts.seed,
            "batch_size": batch_size,
        }
        scores = {NAME: mean}
        parts.tracker.log(with_counts(scores, protocol), source["step"])
        values = {
            "steps": source["step"],
            "images": source["images"],
            "checkpoint": source["path"],
            "scores": scores,
            "standard_error": {NAME: error},
            "protocol": protocol,
        }
        record.write_metrics(parts, values)
    log.info("%.4f bits per dimension, standard error %.4f over %d images", mean, error, images)
    return mean


def check(parts: Parts, images: int, steps: int, probes: int, sigma_min: float) -> None:
    """Raises UserError for what has no likelihood, and for numbers that are none."""
    if not isinstance(parts.autoencoder, Identity):
        raise UserError(
            f"task=likelihood is for pixels, and autoencoder={parts.choices['autoencoder']} makes latents: "
            "their density says nothing of the images', since decoding is not one to one. Pass a run with "
            "autoencoder=identity."
        )
    if not isinstance(parts.guidance, NoGuidance):
        raise UserError(
            f"guidance={parts.choices['guidance']} has no likelihood: a guided network is no longer the "
            "score of a density. Pass guidance=none."
        )
    size = parts.data.size(parts.data.held_out)
    if not 2 <= images <= size:
        raise UserError(
            f"task.images={images} must be from 2 to {size}, the images of the {parts.data.held_out} split."
        )
    if steps < 1 or probes < 1 or sigma_min <= 0:
        raise UserError(
            f"task.steps={steps} and task.probes={probes} must be at least 1, task.sigma_min={sigma_min} "
            "above 0."
        )
    if not parts.process.continuous and steps >= (most := len(cast(DiscreteSteps, parts.process).alpha) - 1):
        raise UserError(f"task.steps={steps} must be below {most}, the steps of the process.")


def measured(parts: Parts, times: Tensor, probe: Probe, images: int, probes: int, batch_size: int) -> Tensor:
    """Bits per dimension of each image, float64 (images,), in every process.

    Image i has its dequantisation and its probes from a stream of its own.
    """
    from tqdm import tqdm

    split, here = parts.data.held_out, parallel.world()
    decode_once(parts.data, split)
    labels = parts.data.labels(split)
    held_out = torch.cat(list(parts.data.images(split, images)))
    network, shape = on_process_time(parts.model, parts.process), parts.data.image_shape
    found: dict[int, Tensor] = {}
    starts = range(here.rank * batch_size, images, here.size * batch_size)
    for start in tqdm(starts, desc="likelihood", disable=None if here.main else True, leave=False):
        index = range(start, min(start + batch_size, images))
        generators = streams("likelihood", parts.seed, index)
        u = torch.stack([torch.rand(shape, generator=g) for g in generators])
        drawn = [torch.stack([probe(shape, g) for g in generators]) for _ in range(probes)]
        label = labels[index.start : index.stop].to(parts.device) if labels is not None else None
        found[start] = bits_per_dimension(
            log_likelihood(
                Denoise(network, parts.objective, parts.guidance, label, bounds=None),
                dequantised(held_out[index.start : index.stop], u).to(parts.device),
                parts.process,
                times,
                [v.to(parts.device) for v in drawn],
            ),
            math.prod(shape),
        ).cpu()
    whole = {start: value for share in parallel.gathered(found) for start, value in share.items()}
    return torch.cat([whole[start] for start in sorted(whole)])


def dequantised(image: Tensor, u: Tensor) -> Tensor:
    """uint8 images and u in [0, 1), of one shape -> float32, even over each grey level's bin.

    Bins are 1 / 127.5 wide and stand around the levels that networks are trained on, so all 256 together
    reach from -1 - 1/255 to 1 + 1/255.
    """
    return to_model_range(image + (u - 0.5))


def bits_per_dimension(log_density: Tensor, dimensions: int) -> Tensor:
    """log p in nats of dequantised images in [-1, 1] -> bits a dimension, of the same shape.

    A grey level's probability is the density times its bin, so -log2 P = -log2 p + log2(127.5) for each
    dimension. The mean over u bounds the bits of the uint8 image from above (Theis et al. 2016,
    arXiv:1511.01844). The uniform density costs 8 bits.
    """
    return -log_density / (dimensions * math.log(2)) + math.log2(127.5)

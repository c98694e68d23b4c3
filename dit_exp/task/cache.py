"""task=cache cache.path=DIR: what an autoencoder makes of a data set, encoded once and kept.

Every process encodes its share of the shards, each written beside its place and moved there whole: a killed
run goes on with the shards that are missing, and how many processes there are changes no byte.
"""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dit_exp import parallel
from dit_exp.data import header
from dit_exp.data.cache import require_space
from dit_exp.data.decoded import decode_once
from dit_exp.data.header import Header, labels_path, shard_path
from dit_exp.data.shard import data_offset, mapped
from dit_exp.data.spaced import blocks
from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.seeds import streams
from dit_exp.task import directory
from dit_exp.task.parts import Encoding

log = logging.getLogger(__name__)

MEASURED = 10_000
"""Training images, from all over the split, whose latents' mean and deviation the header tells."""


def cache(
    encoding: Encoding,
    path: str,
    held_out: bool = True,
    batch_size: int = 64,
    dtype: Literal["float32", "float16"] = "float32",
    shard: int = 1024,
) -> None:
    """Encodes the data's training split, and its held-out one, into the folder `path`.

    batch_size  images encoded at once    shard  images in a file
    Raises UserError for a folder that holds another cache, for a disk too small, and for latents that are not
    finite.
    """
    if batch_size < 1 or shard < 1:
        raise UserError(f"task.batch_size={batch_size} and task.shard={shard} must be at least 1.")
    folder = Path(path).expanduser()
    parallel.from_main(lambda: folder.mkdir(parents=True, exist_ok=True))
    with directory.locked(folder, "cache.path"), directory.terminable(encoding.run_dir):
        encoding.data.check()
        splits = ["train", *([encoding.data.held_out] if held_out else [])]
        with parallel.main_first():  # which reads the files for the identity, where it is kept
            made = described(encoding, splits, dtype, shard)
        for split in splits:
            decode_once(encoding.data, split)
        parallel.from_main(lambda: begin(encoding, made, folder))
        for split in made.splits:
            encode(encoding, made, folder, split, batch_size)
        parallel.gathered(None)  # all have come to their end
        parallel.from_main(lambda: finish(encoding, made, folder))
    log.info("Train on it with data=latents data.root=%s", folder)


def described(encoding: Encoding, splits: list[str], dtype: str, shard: int) -> Header:
    """The header of what is about to be encoded."""
    data, autoencoder = encoding.data, encoding.autoencoder
    latent = autoencoder.latent_shape(data.image_shape)
    channels = 2 * latent[0] if autoencoder.stochastic else latent[0]
    return Header(
        {
            "choice": encoding.choices["autoencoder"],
            "config": absolute(encoding.config["autoencoder"]),
            "identity": autoencoder.identity(),
            "stochastic": autoencoder.stochastic,
            "latent_shape": list(latent),
        },
        {
            "choice": encoding.choices["data"],
            "config": absolute(encoding.config["data"]),
            "image_shape": list(data.image_shape),
            "num_classes": data.num_classes,
            "class_names": list(data.class_names),
            "held_out": data.held_out,
        },
        {split: {"identity": data.identity(split), "count": data.size(split)} for split in splits},
        [channels, *latent[1:]],
        data.flip,
        dtype,
        shard,
    )


def absolute(config: dict[str, Any]) -> dict[str, Any]:
    """Names of files and folders that are there, from the root on, so that they hold from anywhere."""
    return {
        key: str(Path(value).expanduser().resolve())
        if isinstance(value, str) and not key.startswith("_") and Path(value).expanduser().exists()
        else value
        for key, value in config.items()
    }


def begin(encoding: Encoding, made: Header, folder: Path) -> None:
    """Writes header and labels. Raises UserError where the folder holds another cache, or has no room."""
    if (folder / header.FILE).exists():
        if lines := made.differences(header.read(str(folder))):
            raise UserError(
                f"cache.path={folder} holds another cache:\n  "
                + "\n  ".join(lines)
                + "\nPass another folder."
            )
        for split in made.splits:
            for number in range(made.shards(split)):
                if (path := shard_path(folder, split, number)).exists():  # it is kept
                    data_offset(path, made.array(split, number), made.dtype)
    elif left := sorted(folder.glob("*.npy")):
        raise UserError(
            f"cache.path={folder} holds {left[0].name} and no {header.FILE}, which says what made it. Remove "
            "what is there, or pass another folder."
        )
    else:
        require_space(
            folder / header.FILE,
            made.nbytes(),
            "The latents",
            "Pass cache.path=DIR on a larger disk, or task.dtype=float16.",
        )
        made.write(folder)
    for split in made.splits:
        labels = encoding.data.labels(split)
        if labels is not None:
            np.save(labels_path(folder, split), labels.numpy())


@torch.no_grad()
def encode(encoding: Encoding, made: Header, folder: Path, split: str, batch_size: int) -> None:
    """Encodes this process's share of a split's shards, those that are not there."""
    from tqdm import tqdm

    here = parallel.world()
    own = range(here.rank, made.shards(split), here.size)
    missing = [number for number in own if not shard_path(folder, split, number).exists()]
    total = sum(len(made.images(split, number)) for number in own)
    left = sum(len(made.images(split, number)) for number in missing)
    shown = None if here.main else True
    with tqdm(total=total, initial=total - left, unit="img", desc=f"encoding {split}", disable=shown) as bar:
        for number in missing:
            index, at = made.images(split, number), 0
            shard = np.empty(made.array(split, number), made.dtype)
            for images in encoding.data.images(split, len(index), index.start):
                for piece in images.split(batch_size):
                    statistics = sides(encoding, piece, made.flips).to(getattr(torch, made.dtype))
                    if not bool(statistics.isfinite().all()):
                        raise UserError(
                            f"The latents of images {index.start + at} and following of {split} are not "
                            f"finite in {made.dtype}. Use task.dtype=float32, or another autoencoder."
                        )
                    shard[at : at + len(piece)] = statistics.cpu().numpy()
                    at += len(piece)
                    bar.update(len(piece))
            store(shard, shard_path(folder, split, number))


def sides(encoding: Encoding, images: Tensor, flips: bool) -> Tensor:
    """uint8 (b, 3, H, W) -> statistics (b, 1 or 2, C, h, w) of the images and of them mirrored."""
    x = to_model_range(images.to(encoding.device))
    views = [x, x.flip(-1)] if flips else [x]
    return torch.stack([encoding.autoencoder.statistics(view) for view in views], dim=1)


def store(shard: np.ndarray, path: Path) -> None:
    """Writes a shard whole or not at all."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.save(file, shard)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def finish(encoding: Encoding, made: Header, folder: Path) -> None:
    """Measures what a model will see and completes the header; says so where it is not of unit size."""
    mean, std = measured(encoding, made, folder)
    made.measured(mean, std).write(folder)
    figures = "  ".join(f"{m:.3f}, {s:.3f}" for m, s in zip(mean, std, strict=True))
    log.info("Mean and standard deviation of each channel of the latents: %s", figures)
    if not all(0.5 < s < 2 for s in std):
        log.warning(
            "The latents are not of unit size, as diffusion takes them to be. Measure the autoencoder's "
            "scale on these data."
        )


@torch.no_grad()
def measured(encoding: Encoding, made: Header, folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, over 10,000 training images where there are so many."""
    shards = [
        mapped(shard_path(folder, "train", number), made.array("train", number), made.dtype)
        for number in range(made.shards("train"))
    ]
    sums = torch.zeros(3, made.autoencoder["latent_shape"][0], dtype=torch.float64)
    for block in blocks(made.splits["train"]["count"], MEASURED):
        places = [divmod(index, made.shard) for index in block]
        statistics = torch.from_numpy(np.stack([shards[shard][row, 0] for shard, row in places])).float()
        noise = None
        if encoding.autoencoder.stochastic:
            [draw] = streams("measured latents", 0, [block.start])
            noise = torch.randn(len(statistics), *made.autoencoder["latent_shape"], generator=draw)
            noise = noise.to(encoding.device)
        x = encoding.autoencoder.latent(statistics.to(encoding.device), noise).double().cpu()
        count = math.prod(x.shape) / x.shape[1]
        sums += torch.stack([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), torch.full((x.shape[1],), count)])
    mean = sums[0] / sums[2]
    return mean.tolist(), (sums[1] / sums[2] - mean.square()).clamp(min=0).sqrt().tolist()

"""task=sample checkpoint=PATH: images as PNG files, or as one .npz in the layout that FID tools read."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from typing import Literal
from zipfile import ZipFile

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.images import save_png
from dit_exp.task import record
from dit_exp.task.generate import (
    Samples,
    check_batch_size,
    draw_grid,
    draw_progress,
    generate,
    labels_of,
    planning,
)
from dit_exp.task.parts import Parts, trained

log = logging.getLogger(__name__)


def sample(
    parts: Parts, num_images: int = 40, format: Literal["png", "npz"] = "png", batch_size: int = 250
) -> None:
    """Writes images 0 to num_images - 1 of the checkpoint's model into the run directory.

    png  samples/000000.png and so on   npz  samples.npz with arr_0, uint8 (N, H, W, 3), and label where there
         are classes
    """
    source = trained(parts)
    check_batch_size(batch_size)
    if num_images < 1:
        raise UserError(f"task.num_images={num_images} must be at least 1.")
    folder = parts.run_dir / "samples"
    if format == "png" and folder.exists() and not _begun(parts):
        raise UserError(f"{folder} exists, and two sets of images would mix in it. Pass another run_dir.")
    with record.recorded(parts):
        main, plan = parallel.world().main, planning(parts, parts.model)
        if main:
            draw_grid(parts, parts.model, parts.run_dir / "samples.png", plan)
            draw_progress(parts, parts.model, parts.run_dir / "progress.png", plan)
        parts.tracker.image("samples", parts.run_dir / "samples.png", source["step"])
        pieces = generate(parts, parts.model, num_images, min(batch_size, num_images), plan)
        if format == "npz":
            write_npz(pieces, parts, num_images)
        else:
            folder.mkdir(exist_ok=True)
            for piece in pieces:
                for i, image in enumerate(piece.images, start=piece.start):
                    save_png(image, folder / f"{i:06d}.png")
    log.info("%d images and their grid, samples.png, in %s", num_images, parts.run_dir)


def _begun(parts: Parts) -> bool:
    """Whether a job that was started again has begun this: the same images are then drawn once more."""
    import yaml

    config = parts.run_dir / "config.yaml"
    again = "SLURM_RESTART_COUNT" in os.environ and config.exists()
    return again and yaml.safe_load(config.read_text()) == parts.config


def write_npz(pieces: Iterable[Samples], parts: Parts, count: int) -> None:
    """Writes samples.npz with arr_0, uint8 (N, H, W, 3), and label, int64 (N,), where there are labels.

    Pieces pass through files, one at a time: all images together need not fit in memory.
    """
    import numpy as np

    folder, path = parts.run_dir / "samples.parts", parts.run_dir / "samples.npz"
    parallel.from_main(lambda: shutil.rmtree(folder, ignore_errors=True))  # of a job that broke off
    folder.mkdir(exist_ok=True)
    for piece in pieces:
        np.save(folder / f"{piece.start:09d}.npy", piece.images.permute(0, 2, 3, 1).numpy())
    parallel.gathered(None)  # all pieces are there
    if not parallel.world().main:
        return
    channels, rows, columns = parts.data.image_shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, rows, columns, channels)}
    with ZipFile(path, "w", allowZip64=True) as whole:
        with whole.open("arr_0.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in sorted(folder.iterdir()):
                file.write(np.load(part).data)
        labels = labels_of(range(count), parts.data.num_classes)
        if labels is not None:
            with whole.open("label.npy", "w") as file:
                np.save(file, labels.numpy())
    shutil.rmtree(folder)

"""task=sample checkpoint=PATH: images as PNG files, or as one .npz in the layout that FID tools read."""

from __future__ import annotations

import logging
from typing import Literal

from dit_exp.errors import UserError
from dit_exp.images import save_png
from dit_exp.task import record
from dit_exp.task.generate import draw_grid, draw_progress, generate
from dit_exp.task.parts import Parts

log = logging.getLogger(__name__)


def sample(
    parts: Parts, num_images: int = 40, format: Literal["png", "npz"] = "png", batch_size: int = 250
) -> None:
    """Writes images 0 to num_images - 1 of the checkpoint's model into the run directory.

    png  samples/000000.png and so on   npz  samples.npz with arr_0, uint8 (N, H, W, 3), and label where there
         are classes
    """
    import numpy as np
    import torch

    if parts.source is None:
        raise UserError("task=sample needs a trained model. Pass checkpoint=RUN_DIR or a checkpoint file.")
    record.start(parts)
    draw_grid(parts, parts.model, parts.run_dir / "samples.png")
    draw_progress(parts, parts.model, parts.run_dir / "progress.png")
    pieces = generate(parts, parts.model, num_images, min(batch_size, num_images))
    if format == "npz":
        drawn = list(pieces)
        images = torch.cat([s.images for s in drawn]).permute(0, 2, 3, 1).numpy()
        target = parts.run_dir / "samples.npz"
        if parts.data.num_classes:
            np.savez(
                target, images, label=torch.cat([s.labels for s in drawn if s.labels is not None]).numpy()
            )
        else:
            np.savez(target, images)
    else:
        target = parts.run_dir / "samples"
        target.mkdir(exist_ok=True)
        written = 0
        for piece in pieces:
            for image in piece.images:
                save_png(image, target / f"{written:06d}.png")
                written += 1
    parts.tracker.image("samples", parts.run_dir / "samples.png", parts.source["step"])
    parts.tracker.finish()
    log.info("%d images in %s, a grid in %s", num_images, target, parts.run_dir / "samples.png")

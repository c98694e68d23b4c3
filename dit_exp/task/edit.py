"""task=edit checkpoint=PATH: a PNG in, PNGs out, in the way that the group `edit` says."""

from __future__ import annotations

import difflib
import logging

import torch

from dit_exp import parallel
from dit_exp.edit.studio import Edit, Studio
from dit_exp.errors import UserError
from dit_exp.guidance.classifier import ClassifierGuidance
from dit_exp.images import save_grid, save_png
from dit_exp.sampler.denoise import Denoise, on_process_time
from dit_exp.sampler.reuse.none import NoReuse
from dit_exp.task import record
from dit_exp.task.parts import Parts, trained
from dit_exp.trainer.loop import autocast

log = logging.getLogger(__name__)


@torch.no_grad()
def edit(parts: Parts, edit: Edit, label: int | str | None = None) -> None:
    """Writes edited/000000.png and so on, and edited.png with what the edit started from before them.

    label  the class that is drawn, by name or number; None for none
    Of several processes the main one works.
    """
    source = trained(parts)
    if not isinstance(parts.reuse, NoReuse):
        raise UserError(
            f"sampler.reuse={parts.choices['sampler.reuse']} is planned for a walk from noise to data, and "
            "edits start elsewhere or go back and forth. Pass sampler.reuse=none."
        )
    folder = parts.run_dir / "edited"
    if folder.exists():
        raise UserError(f"{folder} exists, and two sets of images would mix in it. Pass another run_dir.")
    studio = studio_of(parts, class_of(parts, label))
    pictures = edit.prepare(studio)
    parts.model.eval()
    with record.recorded(parts):
        if not parallel.world().main:
            return
        with autocast(parts.device, parts.trainer.precision):
            edited = edit(studio, *pictures)
        folder.mkdir()
        for i, image in enumerate(edited):
            save_png(image, folder / f"{i:06d}.png")
        strip = torch.cat([*pictures, edited])
        save_grid(strip, parts.run_dir / "edited.png", len(strip))
        parts.tracker.image("edited", parts.run_dir / "edited.png", source["step"])
    log.info("%d images in %s, and beside what they are from in edited.png", len(edited), folder)


def studio_of(parts: Parts, label: int | None) -> Studio:
    """The parts that edits work with, for one class."""
    network = on_process_time(parts.model, parts.process)
    bounds = parts.autoencoder.bounds if parts.sampler.clip else None

    def denoiser(count: int) -> Denoise:
        labels = torch.full((count,), label, device=parts.device) if label is not None else None
        return Denoise(network, parts.objective, parts.guidance, labels, bounds)

    return Studio(
        denoiser,
        parts.sampler,
        parts.process,
        parts.grid(parts.process, parts.sampler.steps),
        parts.autoencoder,
        parts.data.image_shape[1],
        parts.latent_shape,
        parts.seed,
        parts.device,
    )


def class_of(parts: Parts, label: int | str | None) -> int | None:
    """The label that the network is told. Raises UserError for a class that the data has not, and for none
    where the network or its guidance needs one.
    """
    names = list(parts.data.class_names)
    if label is None:
        if names and (parts.model.null_label is None or isinstance(parts.guidance, ClassifierGuidance)):
            raise UserError("This model or its guidance needs a class. Pass task.label=NAME or a number.")
        return parts.model.null_label
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and 0 <= label < len(names):
        return label
    if not names:
        raise UserError(f"task.label={label}: data={parts.choices['data']} has no classes. Leave it out.")
    close = difflib.get_close_matches(str(label), names, 1)
    raise UserError(
        f"task.label={label}: there is no such class. Pass a number from 0 to {len(names) - 1} or one of "
        f"{', '.join(names)}." + (f" Did you mean {close[0]}?" if close else "")
    )

"""Training batches that are gathered where they are used, from all images on that device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dit_exp.errors import UserError
from dit_exp.types.data import Batch

Positions = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
"""start -> (numbers of images, which of them to mirror) of batches start, start + 1, and so on."""

Gather = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(all images (N, ...), numbers int64 (B,), which to mirror bool (B,)) -> a batch's (B, ...)."""


class ResidentFeed:
    """The batches of a feed, bit for bit; of each only the images' numbers are sent to the device.

    pieces  arrays (n, ...), together all images in their order
    labels  int64 (N,) or None
    Raises UserError where the images are more than the device has free.
    """

    def __init__(
        self,
        pieces: Sequence[np.ndarray],
        labels: np.ndarray | None,
        positions: Positions,
        gather: Gather,
        device: torch.device,
    ) -> None:
        count, shape = sum(map(len, pieces)), pieces[0].shape[1:]
        check_room(count * math.prod(shape) * pieces[0].itemsize, device)
        kind = torch.from_numpy(np.empty(0, pieces[0].dtype)).dtype
        self.images = torch.empty((count, *shape), dtype=kind, device=device)
        for piece, place in zip(pieces, self.images.split([len(piece) for piece in pieces]), strict=True):
            place.copy_(torch.from_numpy(np.array(piece)))
        self.labels = None if labels is None else torch.from_numpy(np.array(labels)).to(device)
        self.positions, self.gather, self.device = positions, gather, device

    def batches(self, start: int = 0) -> Iterator[Batch]:
        for numbers, mirrored in self.positions(start):
            index, mirror = (
                torch.from_numpy(v).to(self.device, non_blocking=True) for v in (numbers, mirrored)
            )
            label = None if self.labels is None else self.labels[index]
            yield Batch(self.gather(self.images, index, mirror), label)


def check_room(needed: int, device: torch.device) -> None:
    """Raises UserError where a GPU has fewer bytes free."""
    if device.type == "cuda" and needed > (free := torch.cuda.mem_get_info(device)[0]):
        raise UserError(
            f"The training images take {needed / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB "
            "free. Pass trainer.resident_data=false."
        )

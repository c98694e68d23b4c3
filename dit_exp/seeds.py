"""Random streams addressed by what they are for, so nothing of a generator's state has to be saved.

A training step draws from (seed, step) and an image from (seed, index): a resumed run and a run on
another number of processes draw the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor


def mix(purpose: str, *address: int) -> int:
    """A purpose and non-negative integers -> 63 bits that differ for different addresses."""
    # SeedSequence pads with zeros, so the purpose and the length keep short addresses apart.
    words = (crc32(purpose.encode()), len(address), *address)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def streams(purpose: str, seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """The stream of each image, on the CPU."""
    return [torch.Generator().manual_seed(mix(purpose, seed, index)) for index in indices]


class ImageNoise:
    """Standard normal noise (B, *shape), each image from the stream of its own index.

    Drawn on the CPU, so that an image does not depend on the device.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self.streams = streams("image", seed, indices)
        self.shape, self.device = tuple(shape), device

    def __call__(self) -> Tensor:
        return torch.stack([torch.randn(self.shape, generator=g) for g in self.streams]).to(self.device)

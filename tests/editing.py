"""A studio whose denoiser is exact, for edits without a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dit_exp.autoencoder.identity import Identity
from dit_exp.edit.studio import Studio
from dit_exp.sampler.walk import Sampler
from dit_exp.types.diffusion import Denoiser, Process


def studio(
    process: Process,
    denoise: Denoiser,
    sampler: Sampler,
    shape: tuple[int, int, int] = (3, 4, 4),
    times: Callable[[Process, int], Tensor] | None = None,
    seed: int = 0,
) -> Studio:
    """For pictures of `shape`, which are their own latents."""
    grid = process.grid(sampler.steps) if times is None else times(process, sampler.steps)
    cpu = torch.device("cpu")
    return Studio(lambda count: denoise, sampler, process, grid, Identity(), shape[1], shape, seed, cpu)


def picture(seed: int = 0, shape: tuple[int, int, int] = (3, 4, 4)) -> Tensor:
    """Random grey levels, uint8 (1, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (1, *shape), generator=generator, dtype=torch.uint8)

"""Fill a hole in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from dit_exp.edit.picture import read, read_mask
from dit_exp.edit.studio import Studio, at_least
from dit_exp.errors import UserError
from dit_exp.sampler.walk import Stop, Walk, at, stops
from dit_exp.types.diffusion import DrawNoise


class Inpaint:
    """RePaint: after each step what is known is put in, noised to that time.

    A hole sees what is around it as it was a step ago, so it fits only roughly. Therefore every `jump_length`
    steps the walk jumps back as many, by noising all of x, and takes them again, `jumps` times: the two parts
    come to agree. One evaluation a step: (jumps + 1) steps in all. The last step puts in the picture's own
    pixels.

    mask         a file whose white pixels are to be filled, or a box [left, top, right, bottom] in pixels of
                 the model's image, right and bottom excluded. A latent is filled where any of its pixels is
    jump_length  steps of a jump, j in the paper
    jumps        jumps back, r - 1 in the paper; 0 for none
    count        versions; version i has the noise of image i
    Source: Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1.
    """

    def __init__(
        self,
        image: str,
        mask: str | tuple[int, int, int, int],
        jump_length: int = 10,
        jumps: int = 9,
        count: int = 4,
    ) -> None:
        self.image, self.mask = image, mask
        self.jump_length, self.jumps = at_least("jump_length", jump_length), at_least("jumps", jumps, 0)
        self.count = at_least("count", count)

    def prepare(self, studio: Studio) -> tuple[Tensor, Tensor]:
        if not isinstance(studio.sampler, Walk):
            raise UserError(
                "edit=inpaint walks back and forth, so its sampler must look at one step alone. "
                "Pass sampler=ddpm, ddim, euler_ancestral or sde."
            )
        picture = read(self.image, "edit.image", studio.size)
        if isinstance(self.mask, str):
            mask = read_mask(self.mask, "edit.mask", studio.size, self.image)
        else:
            mask = boxed(self.mask, studio.size)
        if not bool(mask.any()):
            raise UserError(f"edit.mask={self.mask} has no white pixel, so there is nothing to fill.")
        return picture, mask

    def __call__(self, studio: Studio, picture: Tensor, mask: Tensor) -> Tensor:
        hole = mask[:, :1] > 0
        height, width = studio.latent_shape[1:]
        latent_hole = adaptive_max_pool2d(hole.float(), (height, width)).to(studio.device) > 0
        filled = studio.decode(self.fill(studio, studio.encode(picture), latent_hole))
        return torch.where(hole, filled, picture)

    def fill(self, studio: Studio, known: Tensor, hole: Tensor) -> Tensor:
        """Latents known (1, C, h, w) and hole (1, 1, h, w) -> (count, C, h, w)."""
        sampler, denoise = studio.sampler, studio.denoiser(self.count)
        assert isinstance(sampler, Walk)
        draw = studio.noise(range(self.count))
        x = studio.process.prior_scale * draw()
        way = stops(studio.process, studio.times)
        for start in range(0, len(way) - 1, self.jump_length):
            stretch = way[start : start + self.jump_length + 1]
            for jump in range(self.jumps + 1):
                if jump:
                    x = noised(x, stretch[-1], stretch[0], draw)
                for now, following in pairwise(stretch):
                    x = sampler.step(x, denoise(x, at(now, x)), now, following, draw)
                    there = following.alpha * known + following.sigma * draw()
                    x = torch.where(hole, x, there)
        return x


def noised(x: Tensor, now: Stop, noisier: Stop, draw: DrawNoise) -> Tensor:
    """A draw of x at the stop `noisier`, given x at `now`."""
    ratio = noisier.alpha / now.alpha
    return ratio * x + math.sqrt(noisier.sigma**2 - (ratio * now.sigma) ** 2) * draw()


def boxed(box: Sequence[int], size: int) -> Tensor:
    """A mask of a box, uint8 (1, 3, size, size). Raises UserError for one that is none or reaches outside."""
    left, top, right, bottom = box
    if not (0 <= left < right <= size and 0 <= top < bottom <= size):
        raise UserError(
            f"edit.mask={list(box)} must be [left, top, right, bottom] inside the {size}x{size} pixels."
        )
    mask = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    mask[..., top:bottom, left:right] = 255
    return mask

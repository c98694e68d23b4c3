"""The images between two given ones."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.edit.interpolate import between
from dit_exp.edit.picture import read
from dit_exp.edit.studio import Studio, at_least
from dit_exp.errors import UserError
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.inversion import Inversion


class InterpolateImages:
    """DDIM inversion turns both images into noise, and DDIM makes images of the noise between.

    image, other  files
    iterations    of the inversion in each step, an evaluation each
    count         images, both ends among them; the ends are what inversion and DDIM leave of the two
    Source: Song et al. 2020, arXiv:2010.02502, section 5.3.
    """

    def __init__(self, image: str, other: str, iterations: int = 3, count: int = 8) -> None:
        self.image, self.other, self.inverse = image, other, Inversion(at_least("iterations", iterations))
        self.count = at_least("count", count, 2)

    def prepare(self, studio: Studio) -> tuple[Tensor, Tensor]:
        if not isinstance(studio.sampler, DDIM) or studio.sampler.eta:
            raise UserError(
                "edit=interpolate_images runs DDIM backwards. Pass sampler=ddim sampler.eta=0, without noise."
            )
        first = read(self.image, "edit.image", studio.size)
        return first, read(self.other, "edit.other", studio.size)

    def __call__(self, studio: Studio, picture: Tensor, other: Tensor) -> Tensor:
        x0 = studio.encode(torch.cat([picture, other]))
        ends = self.inverse(studio.denoiser(2), x0, studio.process, studio.times)
        draw = studio.noise(range(self.count))
        return studio.decode(studio.sample(between(ends[:1], ends[1:], self.count), draw))

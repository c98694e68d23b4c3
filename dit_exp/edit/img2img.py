"""Another image like a given one: noise it, then sample from there."""

from __future__ import annotations

from torch import Tensor

from dit_exp.edit.picture import read
from dit_exp.edit.studio import Studio, at_least
from dit_exp.sampler.walk import stops


class ImageToImage:
    """x_t = alpha x_0 + sigma noise at the first of the sampler's last strength * steps steps, then these.

    strength  share of the steps: 0 gives the image back, 1 samples from pure noise and forgets it. With
              grid=uniform it is the time t that SDEdit noises to
    count     versions; version i has the noise of image i
    Source: Meng et al. 2022, arXiv:2108.01073.
    """

    def __init__(self, image: str, strength: float = 0.6, count: int = 4) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"edit.strength={strength} must lie in [0, 1].")
        self.image, self.strength, self.count = image, strength, at_least("count", count)

    def prepare(self, studio: Studio) -> tuple[Tensor]:
        return (read(self.image, "edit.image", studio.size),)

    def __call__(self, studio: Studio, picture: Tensor) -> Tensor:
        taken = round(self.strength * (len(studio.times) - 1))
        if not taken:
            return picture.expand(self.count, -1, -1, -1)
        draw = studio.noise(range(self.count))
        if taken == len(studio.times) - 1:  # as all sampling starts, without the signal that x_1 may have
            return studio.decode(studio.sample(studio.process.prior_scale * draw(), draw))
        times = studio.times[-1 - taken :]
        start = stops(studio.process, times)[0]
        x = start.alpha * studio.encode(picture) + start.sigma * draw()
        x = studio.sampler(studio.denoiser(self.count), x, studio.process, draw, times)
        return studio.decode(x)

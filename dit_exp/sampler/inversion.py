"""The noise that DDIM turns into a given image."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from dit_exp.sampler.path import Path
from dit_exp.sampler.walk import at, stops
from dit_exp.types.diffusion import Denoiser, Process


class Inversion:
    """DDIM with eta=0, run from the image to the noise.

    The step down took the velocity at its upper end, which is not known yet on the way up: it is taken at a
    guess, then at the point that results, `iterations` times in all. A guess goes on with the step before it,
    so once errs by the square of the step; more approach the exact inverse.
    Source: Song et al. 2020, arXiv:2010.02502; the iteration, Pan et al. 2023, arXiv:2309.04907.
    """

    def __init__(self, iterations: int = 1) -> None:
        if iterations < 1:
            raise ValueError(f"iterations={iterations} must be at least 1.")
        self.iterations = iterations

    def __call__(self, denoise: Denoiser, x: Tensor, process: Process, times: Tensor) -> Tensor:
        """The image x (B, C, h, w) at times[-1] -> x at times[0], for times (n,) as a sampler takes them."""
        velocity = None
        for now, noisier in pairwise(reversed(stops(process, times))):
            path = Path(now, noisier)
            # The first guess is the image without any noise.
            guess = noisier.alpha / now.alpha * x if velocity is None else path.move(x, velocity)
            for _ in range(self.iterations):
                velocity = path.velocity(denoise(guess, at(noisier, x)))
                guess = path.move(x, velocity)
            x = guess
        return x

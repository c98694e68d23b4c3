"""UniPC: a multistep predictor, and a corrector that costs no evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from dit_exp.sampler.exponential import Said, solve
from dit_exp.sampler.walk import Sampler, Stop, at
from dit_exp.types.diffusion import Denoiser, DrawNoise, Process


class UniPC(Sampler):
    """Predicts with the last `order` images, and when the next one is known repeats the step with it too.

    The prediction's evaluation serves the corrector and the next predictor, so a step costs one. In the last
    steps the order falls to 1. Order p with its corrector is of order p + 1.
    order  2 is advised with guidance, 3 without
    Source: Zhao et al. 2023, arXiv:2302.04867, with B(h) = e^h - 1, images predicted.
    """

    def __init__(self, steps: int = 20, order: int = 2, clip: bool = False) -> None:
        super().__init__(steps, clip)
        if not 1 <= order <= 3:
            raise ValueError(f"sampler.order={order} must be 1 to 3.")
        self.order = order

    def walk(
        self, denoise: Denoiser, x: Tensor, way: list[Stop], process: Process, draw: DrawNoise
    ) -> Iterator[tuple[Tensor, Tensor]]:
        said: Said = []
        started, used = x, 0
        for i, (now, following) in enumerate(pairwise(way)):
            x0 = denoise(x, at(now, x)).x0
            if used:
                x = solve(started, [*said[:used], (now, x0)], now)
            said = [(now, x0), *said][: self.order]
            started, used = x, min(len(said), len(way) - 1 - i)
            x = solve(x, said[:used], following)
            yield x, x0

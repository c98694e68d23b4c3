"""A denoiser whose predicted image is its label, for tests of what guidance makes of answers."""

from __future__ import annotations

import torch

from dit_exp.objective.prediction import per_image
from dit_exp.process.flow import Flow
from dit_exp.types.diffusion import Denoised

LABEL, T, X = torch.tensor([2, 5]), torch.tensor([0.5, 0.5]), torch.zeros(2, 4, 2, 2)
NULL = 10


class Echo:
    """Predicts an image whose pixels are the label plus `offset`, and keeps what it was given.

    variance  whether it says a variance too, the label plus 100
    """

    process = Flow()
    classifies = False

    def __init__(self, offset: float = 0.0, variance: bool = False) -> None:
        self.calls, self.offset, self.variance = [], offset, variance

    def __call__(self, x, t, label):
        self.calls.append((x, t, label))
        x0 = per_image(label, x).expand_as(x) + self.offset
        alpha, sigma = (per_image(v, x) for v in self.process.coefficients(t))
        return Denoised(x0, (x - alpha * x0) / sigma, x0 + 100 if self.variance else None)

    @property
    def images(self) -> int:
        """Images in all calls together."""
        return sum(len(x) for x, _, _ in self.calls)

"""Training images as they come."""

from __future__ import annotations

from torch import Tensor

from dit_exp.types.data import Augmented


class NoAugmentation:
    """Does nothing and draws no random number."""

    entries = 0

    def __call__(self, image: Tensor) -> Augmented:
        return Augmented(image, {})

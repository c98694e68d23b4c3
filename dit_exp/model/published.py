"""Weights under the names of those who published them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights under our names, a patch convolution as a linear layer.

    names  see `Stack.published`
    A name that no pattern fits stays, so that whoever loads the answer can say it.
    """
    ours: dict[str, Tensor] = {}
    for name, value in weights.items():
        stem, kind = re.fullmatch(r"(.*?)(\.weight|\.bias)?", name).groups()  # type: ignore[union-attr]
        fits = (re.sub(theirs, new, stem) for theirs, new in names.items() if re.fullmatch(theirs, stem))
        ours[next(fits, stem) + (kind or "")] = value.flatten(1) if value.ndim == 4 else value
    return ours

"""The losses of steps, read from the device together and checked."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dit_exp import parallel

Step = tuple[int, float, dict[str, Tensor], Tensor]
"""(number, learning rate, losses by name, gradient norm)."""


def finite_rows(
    pending: list[Step],
) -> tuple[list[dict[str, Any]], str | None]:
    """Steps as rows of numbers, up to the first that is not finite, and a text about that one.

    A loss is the mean over the processes; the gradient they have met in has one norm.
    """
    names = list(pending[0][2])
    stacked = torch.stack([torch.stack([losses[name] for name in names]) for _, _, losses, _ in pending])
    means = parallel.mean(stacked).tolist()
    norms = torch.stack([norm for _, _, _, norm in pending]).tolist()
    rows: list[dict[str, Any]] = []
    for (step, rate, _, _), mean, norm in zip(pending, means, norms, strict=True):
        if not all(map(math.isfinite, (*mean, norm))):
            said = ", ".join(f"{name} {value}" for name, value in zip(names[1:], mean[1:], strict=True))
            text = (
                f"The loss is {mean[0]}{said and f' ({said})'} and the gradient norm {norm} at step {step} "
                f"(learning rate {rate:.3g})."
            )
            return rows, text
        named = dict(zip(names, mean, strict=True))
        rows.append({"step": step, **named, "learning_rate": rate, "gradient_norm": norm})
    return rows, None

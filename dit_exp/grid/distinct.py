"""Times that fall in every step, also where a process knows only its own steps."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from dit_exp.types.diffusion import DiscreteSteps, Process


def distinct(process: Process, times: Tensor) -> Tensor:
    """`times`, float64 (n + 1,) that do not rise and end in 0, as times that the process has.

    In a discrete process a time goes to its nearest step, or to the next one toward the data that is free,
    and as many are left as the times after it need. Raises ValueError for more times than steps.
    """
    if process.continuous:
        return times
    process.grid(len(times) - 1)
    discrete = cast(DiscreteSteps, process)
    total = len(discrete.alpha) - 1
    taken = [total + 1]
    for left, wanted in zip(range(len(times) - 1, 0, -1), discrete.index(times).tolist(), strict=False):
        taken.append(max(left, min(wanted, taken[-1] - 1)))
    return torch.tensor([*taken[1:], 0], dtype=torch.float64) / total

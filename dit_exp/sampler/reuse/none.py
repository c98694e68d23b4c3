"""No reuse: the whole network at every evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from dit_exp.sampler.reuse.plan import Alike
from dit_exp.types.network import Model


class NoReuse:
    """Keeps nothing, so every model will do and nothing is planned."""

    def check(self, model: Model, x: Tensor, t: Tensor, label: Tensor | None) -> None: ...

    def plan(self, batches: Callable[[], Sequence[int]], alike: Alike) -> None:
        return None

"""At which evaluations of a trajectory a model's first blocks are run; at the others what they gave is kept.

A plan counts evaluations and not steps: a sampler that takes two a step, as Heun's, may keep between the two.
It is made before the first evaluation, and whoever follows it need not know why it is as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dit_exp.types.network import Model


class Plan(NamedTuple):
    """runs   the evaluations, counted from 0, at which the first blocks are run; 0 is among them
    depth  how many blocks those are, None for the model's own `encoder_depth`
    ahead  whether what they gave is carried on over time, along the line through the last two runs
    """

    runs: tuple[int, ...]
    depth: int | None
    ahead: bool = False


Alike = Callable[[int | None, int], Tensor]
"""(depth, images) -> how alike what the first blocks give is at any two evaluations, (N, N), measured on that
many images: 1 on the diagonal, symmetric.
"""


class Reuse(Protocol):
    """When blocks are kept. `check` raises ValueError for a model of which they cannot be."""

    def check(self, model: Model, x: Tensor, t: Tensor, label: Tensor | None) -> None: ...

    def plan(self, batches: Callable[[], Sequence[int]], alike: Alike) -> Plan | None:
        """The plan of a trajectory, None where the network is run whole at each evaluation.

        batches  how many images the network is asked of at each of the N evaluations, for one that is drawn
        """
        ...


class Sharing(ABC):
    """Keeps the first blocks at a share `ratio` of all evaluations, to a whole number of them.

    Where guidance asks for another batch than at the evaluation before, nothing of that is kept: such an
    evaluation is a run, and one of those that `ratio` allows. Only where guidance changes the batch more
    often than that, less is kept than asked for.
    depth  how many blocks are kept, None for the model's own `encoder_depth`
    """

    def __init__(self, ratio: float, depth: int | None = None) -> None:
        if not 0 <= ratio < 1:
            raise ValueError(
                f"sampler.reuse.ratio={ratio} must be from 0, which keeps nothing, to below 1: the first "
                "evaluation has nothing to use again."
            )
        self.ratio, self.depth = ratio, depth

    def check(self, model: Model, x: Tensor, t: Tensor, label: Tensor | None) -> None:
        with torch.no_grad():
            model.encode(x, t, label, self.depth)

    def plan(self, batches: Callable[[], Sequence[int]], alike: Alike) -> Plan:
        asked = batches()
        total = len(asked)
        needed = {0} | {i for i in range(1, total) if asked[i] != asked[i - 1]}
        count = max(total - round(self.ratio * total), len(needed))
        return Plan(best(self.likeness(total, alike), count, needed), self.depth)

    @abstractmethod
    def likeness(self, total: int, alike: Alike) -> Tensor:
        """How alike two of `total` evaluations are taken to be, (total, total)."""


def best(alike: Tensor, count: int, needed: Collection[int] = ()) -> tuple[int, ...]:
    """The `count` runs of N evaluations that keep what is most alike. Exact, in O(count N^2).

    They maximise the sum of alike[l, j] over all evaluations l, where j is the last run up to l.

    alike   (N, N)
    needed  evaluations that must be runs; the first is one anyway
    Source: Wang et al. 2025, arXiv:2504.05741, where it is told of DDT's encoder.
    """
    total = len(alike)
    needed = {0, *needed}
    if not len(needed) <= count <= total:
        raise ValueError(f"{count} runs of {total} evaluations cannot hold the {len(needed)} that must be.")
    # loss[j, l]: of a run at j that serves up to and with l
    loss = (1 - alike.double().cpu()).T.triu(1).cumsum(1)
    first, last = torch.arange(total)[:, None], torch.arange(total)
    barred = torch.tensor([min((i for i in needed if i > j), default=total) for j in range(total)])
    loss[(last < first) | (last >= barred[:, None])] = torch.inf
    least, chosen = loss[0], []
    for _ in range(count - 1):
        before = torch.cat([least.new_full((1,), torch.inf), least[:-1]])
        least, choice = (before[:, None] + loss).min(0)
        chosen.append(choice.tolist())
    runs, end = [], total - 1
    for choice in reversed(chosen):
        runs.append(choice[end])
        end = choice[end] - 1
    return (0, *reversed(runs))

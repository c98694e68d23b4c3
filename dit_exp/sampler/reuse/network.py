"""A model along one trajectory: its first blocks kept, or watched, or none of it run.

Each is a network like any other, so neither samplers nor guidance know of it. It counts how often it was
asked, and is made anew for each trajectory.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from dit_exp.device import compiled
from dit_exp.sampler.reuse.plan import Plan
from dit_exp.types.network import Encoded, Model


def following(model: nn.Module, plan: Plan | None, compile: bool | str = False) -> nn.Module:
    """The network of one trajectory: the model itself where there is no plan.

    compile  see `device.compiled`; each number of images is compiled anew, so pictures for people are not
    """
    return compiled(model, compile) if plan is None else Kept(cast(Model, model), plan, compile)


class Run(NamedTuple):
    """What the first blocks gave, and when: t (B,)."""

    encoded: Encoded
    t: Tensor


def ahead(latest: Run, earlier: Run | None, t: Tensor) -> Encoded:
    """What the first blocks would give at t (B,), on the line through two runs; after one, what that gave.

    A run of another batch is none, and two at one time are no line.
    """
    if earlier is None or len(earlier.t) != len(t):
        return latest.encoded
    gap = latest.t - earlier.t
    steps = torch.where(gap == 0, 0, (t - latest.t) / gap)
    pairs = zip(latest.encoded.tensors, earlier.encoded.tensors, strict=True)
    tensors = (new + steps.view(-1, *[1] * (new.ndim - 1)) * (new - old) for new, old in pairs)
    return latest.encoded._replace(tensors=tuple(tensors))


class Kept(nn.Module):
    """(x_t, t, label) -> prediction, with the first blocks run where the plan says so and not otherwise."""

    def __init__(self, model: Model, plan: Plan, compile: bool | str = False) -> None:
        super().__init__()
        self.model, self.runs, self.depth = model, frozenset(plan.runs), plan.depth
        # Not the whole of it: a count of evaluations is a constant to a compiler, and new each time.
        self.encode, self.decode = compiled(model.encode, compile), compiled(model.decode, compile)
        self.compiled = compile is not False
        self.asked, self.ahead = 0, plan.ahead
        self.latest: Run | None = None
        self.earlier: Run | None = None

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        if runs := self.asked in self.runs:
            # Before the next is made, so that no more are held than are needed.
            self.earlier, self.latest = self.latest if self.ahead else None, None
            self.latest = Run(self.own(self.encode(x, t, label, self.depth)), t)
        self.asked += 1
        assert self.latest is not None  # evaluation 0 is a run
        encoded = self.latest.encoded if runs else ahead(self.latest, self.earlier, t)
        return self.decode(x, t, label, encoded)

    def own(self, encoded: Encoded) -> Encoded:
        """The same in memory of its own: what a CUDA graph gives lies where its next replay writes."""
        if not self.compiled:
            return encoded
        return encoded._replace(tensors=tuple(tensor.clone() for tensor in encoded.tensors))


class Watched(nn.Module):
    """The whole model at each evaluation, with a record of what its first `depth` blocks gave."""

    def __init__(self, model: Model, depth: int | None) -> None:
        super().__init__()
        self.model, self.depth = model, depth
        self.states: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        encoded = self.model.encode(x, t, label, self.depth)
        self.states.append(self.model.kept(encoded))
        return self.model.decode(x, t, label, encoded)


class Silent(nn.Module):
    """Says 0 and notes of how many images it was asked: what guidance will want, without a network."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.batches: list[int] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.batches.append(len(x))
        return x.new_zeros(len(x), self.out_channels, *x.shape[2:])


def likeness(states: list[Tensor]) -> Tensor:
    """The cosine of two states' tokens, the mean over images and tokens: float64 (n, n), symmetric.

    states  n of (B, N, D), one for each evaluation; those of other batches than one another count as unlike,
            0, since nothing is kept between them
    """
    alike = torch.zeros(len(states), len(states), dtype=torch.float64)
    for batch in {len(state) for state in states}:
        place = torch.tensor([i for i, state in enumerate(states) if len(state) == batch])
        tokens = torch.stack([nn.functional.normalize(states[i].float(), dim=-1) for i in place])
        flat = tokens.flatten(1)
        cosine = (flat @ flat.T).double().cpu() / tokens[0, ..., 0].numel()
        alike[place[:, None], place] = (cosine + cosine.T) / 2
    return alike

"""Muon for the matrices inside blocks, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim import Muon as TorchMuon


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a weight is a matrix of a block's attention or MLP, tmsa's of the condition among them.

    Embeddings, modulations and the head, which meet images, times and labels themselves, are none.
    """
    place = name.split(".")
    return parameter.ndim == 2 and place[-1] == "weight" and bool({"attn", "mlp"} & set(place))


def split(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """A group's hidden matrices, and the rest. Raises ValueError for matrices without names."""
    names = group.get("param_names", [""] * len(group["params"]))
    named = list(zip(names, group["params"], strict=True))
    if any(not name and p.ndim == 2 for name, p in named):
        raise ValueError("optimizer=muon needs the parameters' names, as named_parameters() gives.")
    return [p for name, p in named if is_hidden(name, p)], [p for name, p in named if not is_hidden(name, p)]


class Muon(Optimizer):
    """The momentum of each hidden matrix, made orthogonal by five Newton-Schulz iterations, is its step.

    A step is scaled to the size that AdamW's has, so one `lr` and one `weight_decay` serve both.
    params  named parameters, or groups of them: the names tell which matrices are hidden
    Source: Liu et al. 2025, arXiv:2502.16982. Raises ValueError for matrices without names.

    Both optimizers keep their state in this one's, so a checkpoint is that of any optimizer.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        # `fused` tells torch, where it loads a checkpoint, that AdamW counts its steps on the device.
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "fused": True})
        parts = [split(group) for group in self.param_groups]
        builders: tuple[Callable[[list[Any]], Optimizer], ...] = (
            lambda groups: TorchMuon(groups, lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"),
            lambda groups: AdamW(groups, lr, betas=(betas[0], betas[1]), fused=True),
        )
        self.inner: list[tuple[Optimizer, list[int]]] = []  # with the numbers of the groups that they share
        for which, build in enumerate(builders):
            numbers = [n for n, part in enumerate(parts) if part[which]]
            if numbers:
                self.inner.append((build([{"params": parts[n][which]} for n in numbers]), numbers))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. Raises ValueError for a closure, which would be called twice."""
        if closure is not None:
            raise ValueError("This optimizer takes no closure.")
        for optimizer, numbers in self.inner:
            # Asked for each time: loading a checkpoint puts other dictionaries in their place.
            optimizer.state = self.state
            for number, own in zip(numbers, optimizer.param_groups, strict=True):
                own |= {key: self.param_groups[number][key] for key in ("lr", "weight_decay")}
            optimizer.step()
        return None

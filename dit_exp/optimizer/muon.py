"""Muon for the matrices inside blocks, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim import Muon as TorchMuon


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a weight is a matrix of a block's attention or MLP: from tokens to tokens.

    Embeddings, modulations and the head, which meet images, times and labels, are none.
    """
    place = name.split(".")
    return parameter.ndim == 2 and place[-1] == "weight" and bool({"attn", "mlp"} & set(place))


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
        hidden, rest = [], []
        for group in self.param_groups:
            names = group.get("param_names", [""] * len(group["params"]))
            if any(not name and p.ndim == 2 for name, p in zip(names, group["params"], strict=True)):
                raise ValueError("optimizer=muon needs the parameters' names, as named_parameters() gives.")
            chosen = [is_hidden(name, p) for name, p in zip(names, group["params"], strict=True)]
            for inner, of in ((hidden, True), (rest, False)):
                params_of = [p for p, one in zip(group["params"], chosen, strict=True) if one is of]
                if params_of:
                    inner.append((group, {"params": params_of}))
        make: list[tuple[Callable[..., Optimizer], list[Any]]] = [
            (lambda groups: TorchMuon(groups, lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"), hidden),
            (lambda groups: AdamW(groups, lr, betas=(betas[0], betas[1]), fused=True), rest),
        ]
        self.inner = [(build([own for _, own in groups]), groups) for build, groups in make if groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. Raises ValueError for a closure, which would be called twice."""
        if closure is not None:
            raise ValueError("This optimizer takes no closure.")
        for optimizer, groups in self.inner:
            optimizer.state = self.state  # a checkpoint that was loaded has put another in its place
            for (outer, _), own in zip(groups, optimizer.param_groups, strict=True):
                own["lr"], own["weight_decay"] = outer["lr"], outer["weight_decay"]
            optimizer.step()
        return None

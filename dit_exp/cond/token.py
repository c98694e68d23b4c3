"""Token conditioning: time and label enter the sequence as tokens, and the blocks have no modulation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dit_exp.types.network import Conditioning


class ConditionToken(Conditioning):
    """Appends the condition to the tokens: one, or with `tokens=2` one each for time and label.

    Each appended token gets a learned position vector. Attention carries the condition from there; the
    model drops the appended tokens before its head. Source: "in-context conditioning" of Peebles & Xie 2022,
    arXiv:2212.09748; one summed token as in the CIFAR-10 report.
    Raises ValueError if tokens=2 and there is no label to make the second from.
    """

    appended_from = 0

    def __init__(self, width: int, depth: int, final: bool = True, tokens: int = 1) -> None:
        super().__init__(width, depth, final)
        if tokens not in (1, 2):
            raise ValueError(f"cond.tokens={tokens} is not possible. Use 1 (time + label) or 2 (one each).")
        self.position = nn.Parameter(torch.empty(tokens, width))
        self.reset_parameters()

    def join(self, x: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        x, c = super().join(x, parts)
        if len(self.position) == 1:
            extra = c
        elif len(parts) == 2:
            extra = torch.cat(tuple(parts), dim=1)
        else:
            raise ValueError("cond.tokens=2 needs a label, and this data has none. Use cond.tokens=1.")
        return torch.cat([x, extra + self.position], dim=1), c

    def reset_parameters(self) -> None:
        nn.init.normal_(self.position, std=0.02)

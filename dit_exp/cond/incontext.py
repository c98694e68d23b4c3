"""In-context class tokens beside adaLN-Zero, as in JiT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dit_exp.cond.adaln import AdaLNZero


class InContextClass(AdaLNZero):
    """adaLN-Zero, and before block `start` as many as `tokens` copies of the label's embedding are appended.

    Each copy has a learned vector of its own added; the model drops them before its head. Source: Li & He
    2025, arXiv:2511.13720 (JiT), which prepends 32 before the fifth block of twelve.
    Raises ValueError for a start beyond the last block, and where there is no label.
    """

    def __init__(self, width: int, depth: int, final: bool = True, tokens: int = 32, start: int = 4) -> None:
        super().__init__(width, depth, final)
        if tokens < 1 or not 0 <= start < depth:
            raise ValueError(
                f"cond.tokens={tokens} must be at least 1 and cond.start={start} one of the model's blocks, "
                f"0 to {depth - 1}."
            )
        self.appended_from = start
        self.position = nn.Parameter(torch.empty(tokens, width))
        self.reset_parameters()

    def enter(self, i: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        if i != self.appended_from:
            return x
        if len(parts) < 2:
            raise ValueError("cond=incontext needs labels, and this data has none. Use cond=adaln.")
        return torch.cat([x, parts[1] + self.position], dim=1)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.position, std=0.02)

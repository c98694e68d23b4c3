"""U-ViT: long skips from the first half of a stack to the second, and a convolution at the end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dit_exp.model.blocks import Context
from dit_exp.model.stack import Stack
from dit_exp.nn.embed import Sinusoid
from dit_exp.nn.linear import Linear


class UViT(Stack):
    """A stack of `depth` + 1 blocks, with skips from each of the first half to one of the last half.

    Last in, first out: the two sequences side by side through a linear layer. LayerNorms with gains, a table
    of positions that is learned, the sinusoid of time as it is, and a 3x3 convolution behind the head. With
    cond=token and data without classes it is the paper's. What it takes, see `model.stack`.
    Source: Bao et al. 2022, arXiv:2209.12152.
    Raises ValueError for an odd depth, and where tokens are appended after the first block.
    """

    norm_of = nn.LayerNorm

    def blocks_of(self, depth: int) -> int:
        if depth % 2:
            raise ValueError(f"model.depth={depth} must be even: half of the blocks send, half receive.")
        return depth + 1

    def add(self, input_shape: tuple[int, int, int], out_channels: int, width: int) -> None:
        if self.cond.appended_from:
            raise ValueError(
                "model=uvit joins early and late blocks token by token, so none may be appended between "
                "them. Use cond.start=0, or cond=token."
            )
        self.position = nn.Parameter(torch.empty(1, self.grid.rows * self.grid.columns, width))
        self.skips = nn.ModuleList(Linear(2 * width, width) for _ in range(len(self.blocks) // 2))
        self.smooth = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def time_of(self, width: int) -> Sinusoid:
        return Sinusoid(width)

    def step(self, i: int, carried: tuple[Tensor, ...], context: Context) -> tuple[Tensor, ...]:
        half = len(self.blocks) // 2
        if i > half:
            tokens, *waiting, skip = carried
            carried = self.skips[i - half - 1](torch.cat([tokens, skip], dim=-1)), *waiting
        tokens, *waiting = super().step(i, carried, context)
        return (tokens, *waiting, tokens) if i < half else (tokens, *waiting)

    def image(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        return self.smooth(super().image(patches, rows, columns))

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.position, std=0.02)
        if self.label is not None:
            self.label.reset_parameters()
        self.cond.reset_parameters()

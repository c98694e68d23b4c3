"""An hourglass: blocks on small patches around more and wider ones on a quarter of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from dit_exp.model.blocks import Context, apply_block, check_together, joined, xavier
from dit_exp.model.stack import Stack
from dit_exp.nn.linear import Linear
from dit_exp.nn.mlp import SwiGLU
from dit_exp.nn.norm import RMSNorm
from dit_exp.nn.transformer import Block
from dit_exp.types.network import TokenGrid


class _Inner(nn.Module):
    """Tokens (B, N, width) of a grid -> the same, by blocks of twice the width on a quarter of the tokens."""

    def __init__(
        self,
        attn: Callable[..., nn.Module],
        cond: Callable[..., Any],
        depth: int,
        width: int,
        heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        wide = 2 * width
        self.merge, self.split = Linear(4 * width, wide), Linear(wide, 4 * width)
        self.condition = Linear(width, wide)
        self.cond = cond(width=wide, depth=depth, final=False)
        self.blocks = nn.ModuleList(
            Block(wide, attn(width=wide, heads=2 * heads), SwiGLU(wide, mlp_ratio), RMSNorm)
            for _ in range(depth)
        )
        xavier(self)
        self.cond.reset_parameters()

    def forward(self, tokens: Tensor, context: Context, remat: bool) -> Tensor:
        grid = halved(context.grid)
        places = {"r": grid.rows, "s": grid.columns, "p": 2, "q": 2}
        merged = self.merge(rearrange(tokens, "b (r p s q) d -> b (r s) (p q d)", **places))
        count = merged.shape[1]
        parts = [self.condition(part) for part in context.parts]
        merged, own = joined(self.cond, merged, parts, grid)
        for i, block in enumerate(self.blocks):
            merged = apply_block(block, self.cond, i, merged, own, remat)
        return rearrange(self.split(merged[:, :count]), "b (r s) (p q d) -> b (r p s q) d", **places)


def halved(grid: TokenGrid) -> TokenGrid:
    """The grid of 2x2 tokens."""
    return TokenGrid(grid.rows // 2, grid.columns // 2)


class Hourglass(Stack):
    """`depth` blocks, then 2x2 tokens made one and `inner_depth` blocks twice as wide, then `depth` blocks.

    What the inner blocks gave, split into four tokens again, is mixed with the tokens before by a learned
    share. Blocks have RMS norms and SwiGLU; a 3x3 convolution follows the head, across patches' borders.
    The inner blocks have twice the heads, and the condition through a linear layer.
    What else it takes, see `model.stack`, where a stack's blocks are here the outer ones and the inner ones
    belong to the first after them, with which `encoder_depth` ends. The merge and the learned share are those
    of Crowson et al. 2024, arXiv:2401.11605 (HDiT). Raises ValueError for a grid of tokens with an odd side.
    """

    norm_of = RMSNorm
    mlp_of = SwiGLU

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        out_channels: int,
        num_classes: int,
        attn: Callable[..., nn.Module],
        cond: Callable[..., Any],
        depth: int,
        inner_depth: int,
        width: int,
        heads: int,
        patch_size: int,
        mlp_ratio: float = 4.0,
        class_dropout: float = 0.1,
        remat: bool = False,
    ) -> None:
        if inner_depth < 1:
            raise ValueError(f"model.inner_depth={inner_depth} must be at least 1.")
        super().__init__(
            input_shape,
            out_channels,
            num_classes,
            attn,
            cond,
            2 * depth,
            width,
            heads,
            patch_size,
            mlp_ratio,
            class_dropout,
            remat=remat,
        )
        # Two thirds of the outer blocks may end before the inner ones, which are most of the work.
        self.encoder_depth = depth + 1
        self.inner = _Inner(attn, cond, inner_depth, width, heads, mlp_ratio)
        check_together(self.inner.blocks, self.inner.cond, halved(self.grid))
        self.share = nn.Parameter(torch.full((), 0.5))
        self.smooth = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        assert self.smooth.bias is not None
        nn.init.zeros_(self.smooth.bias)

    def step(self, i: int, carried: tuple[Tensor, ...], context: Context) -> tuple[Tensor, ...]:
        if i == len(self.blocks) // 2:
            [tokens] = carried
            grid = context.grid
            image, appended = tokens.split([n := grid.rows * grid.columns, tokens.shape[1] - n], dim=1)
            inner = self.inner(image, context, self.remat and self.training)
            image = image.lerp(inner.to(image.dtype), self.share)
            carried = (torch.cat([image, appended], dim=1),)
        return super().step(i, carried, context)

    def image(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        return self.smooth(super().image(patches, rows, columns))

    def grid_of(self, rows: int, columns: int) -> TokenGrid:
        grid = super().grid_of(rows, columns)
        if grid.rows % 2 or grid.columns % 2:
            raise ValueError(
                f"model=hourglass makes one of 2x2 tokens, and {rows}x{columns} in patches of "
                f"{self.patch_size} is {grid.rows}x{grid.columns} tokens. Change "
                "model.patch_size or data.image_size."
            )
        return grid

"""A bias for each offset between two tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dit_exp.types.network import TokenGrid


class RelativeBias(nn.Module):
    """A learned number a head for each offset (rows, columns) between a query and a key.

    extent  side of the square of tokens whose offsets have numbers of their own, (2 extent - 1)^2 of them.
            A smaller grid has the offsets it has; on a larger one the table is stretched.
    Source: Liu et al. 2021, arXiv:2103.14030 (Swin), whose table this is, row by row.
    """

    def __init__(self, heads: int, extent: int) -> None:
        super().__init__()
        self.extent = extent
        self.table = nn.Parameter(torch.empty((2 * extent - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: TokenGrid) -> Tensor:
        """float (heads, N, N) for the N = rows columns tokens of a grid, query by key."""
        side = 2 * self.extent - 1
        table = self.table.T.unflatten(1, (side, side))
        reach = [2 * max(n, self.extent) - 1 for n in grid]
        if reach != [side, side]:
            table = nn.functional.interpolate(table[None], size=reach, mode="bicubic", align_corners=True)[0]
        device = table.device
        row = torch.arange(grid.rows, device=device).repeat_interleave(grid.columns)
        column = torch.arange(grid.columns, device=device).repeat(grid.rows)
        middle = [n // 2 for n in reach]
        return table[:, row[:, None] - row[None] + middle[0], column[:, None] - column[None] + middle[1]]

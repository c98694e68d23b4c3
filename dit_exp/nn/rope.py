"""Rotary position embedding in two dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.types.network import TokenGrid


def angles(grid: TokenGrid, size: int, theta: float, span: float, device: torch.device) -> Tensor:
    """float32 (rows columns, size / 2): by what angle each pair of a head's channels is turned at a token.

    Column and row run from 0 to `span` whatever the grid, so a larger one lies between the places of the
    one that was trained. The column's and the row's angle alternate, at frequencies theta^(-4 i / size).
    Raises ValueError if size is not a multiple of 4.
    """
    if size % 4:
        raise ValueError(
            f"2-D rotary positions need heads of a multiple of 4 channels, and model.width / model.heads is "
            f"{size}. Choose other model.heads."
        )
    frequencies = theta ** (-4 / size * torch.arange(size // 4, device=device, dtype=torch.float32))
    rows = torch.linspace(0, span, grid.rows, device=device)
    columns = torch.linspace(0, span, grid.columns, device=device)
    by_column = (columns[:, None] * frequencies).repeat(grid.rows, 1)
    by_row = (rows[:, None] * frequencies).repeat_interleave(grid.columns, dim=0)
    return torch.stack([by_column, by_row], dim=-1).flatten(1)


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    """x (B, heads, N, size) with channels (2 j, 2 j + 1) of its first tokens turned by angle (M, size / 2).

    Tokens after the first M, which have no place, stay as they are. Computed in float32.
    Source: Su et al. 2021, arXiv:2104.09864.
    """
    count = len(angle)
    first, second = x[:, :, :count].float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return torch.cat([turned.flatten(-2).to(x.dtype), x[:, :, count:]], dim=2)

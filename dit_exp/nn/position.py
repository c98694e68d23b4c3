"""Position tables on other grids than their own."""

from __future__ import annotations

from torch import Tensor, nn

from dit_exp.types.network import TokenGrid


def resized(table: Tensor, own: TokenGrid, grid: TokenGrid) -> Tensor:
    """A table (1, rows columns, width) of one grid on another, by bicubic interpolation in float32.

    Smoothed first where the other grid is coarser; the table itself on its own grid.
    """
    if grid == own:
        return table
    image = table.float().unflatten(1, own).permute(0, 3, 1, 2)
    image = nn.functional.interpolate(image, size=tuple(grid), mode="bicubic", antialias=True)
    return image.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)

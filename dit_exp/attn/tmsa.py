"""Time-dependent self-attention."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from dit_exp.nn.heads import Heads
from dit_exp.nn.linear import Linear
from dit_exp.nn.relative import RelativeBias
from dit_exp.types.network import SpatialAttention, TokenGrid


class TimeDependentAttention(Heads, SpatialAttention):
    """Queries, keys and values are linear in the token and in the condition; a bias tells how far tokens are.

    q = W_qs x + W_qt c, k and v likewise; softmax(q k^T / sqrt(d) + bias) v.
    Input and output: x (B, N, D), c (B, 1 or N, D) -> (B, N, D).
    window  tokens a side of the squares within which tokens attend, None for one square of all; a side of the
            grid that is shorter is one window
    extent  side of the grid whose offsets have biases of their own, see `nn.relative`
    Tokens appended to the grid have a bias of 0. Source: Hatamizadeh et al. 2023, arXiv:2312.02139 (DiffiT),
    equations 3 to 6. Raises ValueError for a grid that the window does not divide.
    """

    reads_condition = True

    def __init__(
        self,
        width: int,
        heads: int,
        window: int | None = None,
        extent: int = 16,
        qk_norm: bool = False,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(width, heads, heads, qk_norm, qkv_bias)
        if extent < 1 or (window is not None and window < 1):
            raise ValueError(f"attn.window={window} and attn.extent={extent} must be at least 1.")
        self.window, self.takes_appended = window, window is None
        self.of_condition = Linear(width, 3 * width, bias=qkv_bias)
        self.bias = RelativeBias(heads, extent)

    def check(self, grid: TokenGrid) -> None:
        part = self.part(grid)
        if grid.rows % part.rows or grid.columns % part.columns:
            raise ValueError(
                f"attn.window={self.window} does not divide the grid of {grid.rows}x{grid.columns} tokens. "
                "Use attn=tmsa, whose window is the whole grid, or a window that divides it."
            )

    def part(self, grid: TokenGrid) -> TokenGrid:
        """The grid of one window."""
        return grid if self.window is None else TokenGrid(*(min(side, self.window) for side in grid))

    def forward(self, x: Tensor, c: Tensor, grid: TokenGrid) -> Tensor:
        self.check(grid)
        part = self.part(grid)
        rows, columns = grid.rows // part.rows, grid.columns // part.columns
        heads = self.split(self.qkv(x) + self.of_condition(c))
        bias = self.bias(part).to(heads[0].dtype)
        if self.window is None:
            appended = x.shape[1] - grid.rows * grid.columns
            y = scaled_dot_product_attention(*heads, attn_mask=pad(bias, (0, appended, 0, appended)))
        else:
            shape = {"i": rows, "j": columns, "r": part.rows, "s": part.columns}
            inside = (rearrange(v, "b h (i r j s) d -> (b i j) h (r s) d", **shape) for v in heads)
            y = scaled_dot_product_attention(*inside, attn_mask=bias)
            y = rearrange(y, "(b i j) h (r s) d -> b h (i r j s) d", **shape)
        return self.out(rearrange(y, "b h n d -> b n (h d)"))

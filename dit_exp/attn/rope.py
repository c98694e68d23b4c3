"""Multi-head attention with rotary positions."""

from __future__ import annotations

from torch import Tensor

from dit_exp.nn.heads import Heads
from dit_exp.nn.rope import angles, rotated
from dit_exp.types.network import SpatialAttention, TokenGrid


class RotaryAttention(Heads, SpatialAttention):
    """Self-attention whose queries and keys are turned by their token's row and column.

    Input and output: (batch, tokens, width); the condition is not used, and appended tokens are not turned.
    kv_heads  None for as many as heads
    theta, span  the base of the frequencies, and the number that the last row and column have
    Source: Su et al. 2021, arXiv:2104.09864; in two dimensions over a fixed span as in DDT, Wang et al. 2025,
    arXiv:2504.05741. Raises ValueError for heads whose size is not a multiple of 4.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int | None = None,
        qk_norm: bool = True,
        qkv_bias: bool = False,
        theta: float = 10_000.0,
        span: float = 16.0,
    ) -> None:
        super().__init__(width, heads, heads if kv_heads is None else kv_heads, qk_norm, qkv_bias)
        self.theta, self.span = theta, span

    def check(self, grid: TokenGrid) -> None:
        angles(grid, self.size, self.theta, self.span, self.qkv.weight.device)

    def forward(self, x: Tensor, c: Tensor, grid: TokenGrid) -> Tensor:
        q, k, v = self.split(self.qkv(x))
        angle = angles(grid, self.size, self.theta, self.span, x.device)
        return self.attend(rotated(q, angle), rotated(k, angle), v)

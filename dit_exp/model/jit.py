"""JiT: a plain transformer on large patches of pixels."""

from __future__ import annotations

import functools

from dit_exp.model.stack import Stack
from dit_exp.nn.mlp import SwiGLU
from dit_exp.nn.norm import RMSNorm


class JiT(Stack):
    """A stack as DiT's with RMS norms and SwiGLU.

    With `bottleneck`, attn=rope and cond=incontext it is JiT's. What it takes, see `model.stack`.
    Source: Li & He 2025, arXiv:2511.13720.
    """

    norm_of = RMSNorm
    mlp_of = functools.partial(SwiGLU, bias=True)

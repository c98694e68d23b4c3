"""DiffiT on latents: a stack of blocks that hear time and label in their attention alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import silu

from dit_exp.model.stack import Stack


class DiffiTLatent(Stack):
    """A stack as DiT's with SiLU before the head; with attn=tmsa and cond=none it is DiffiT's.

    What it takes, see `model.stack`. Source: Hatamizadeh et al. 2023, arXiv:2312.02139.
    """

    def project(self, tokens: Tensor) -> Tensor:
        return self.head(silu(tokens))

"""adaLN with gates that start open, as DDT's released code has it."""

from __future__ import annotations

from torch import nn

from dit_exp.cond.adaln import AdaLNZero


class AdaLNOpen(AdaLNZero):
    """adaLN-Zero's vectors, of which only the head's start at zero.

    The blocks' start as torch's linear layers do, which is small and not zero. Source: the released code of
    DDT, Wang et al. 2025, arXiv:2504.05741, whose text says adaLN-Zero.
    """

    def reset_parameters(self) -> None:
        for layer in self.blocks:
            assert isinstance(layer, nn.Linear)
            layer.reset_parameters()
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

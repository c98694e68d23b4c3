"""adaLN without gates."""

from __future__ import annotations

from torch import nn

from dit_exp.cond.adaln import AdaLNZero


class AdaLN(AdaLNZero):
    """Four modulation vectors a block, shift and scale for each half, and no gates.

    The head's are as in adaLN-Zero and start at zero; the blocks' start as any linear layer of the model.
    Source: the "adaLN" of Peebles & Xie 2022, arXiv:2212.09748, figure 5.
    """

    vectors = 4

    def reset_parameters(self) -> None:
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

"""What a network is made of and what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""(x_t (B, C, h, w), t (B,) in [0, 1], label (B,) or None) -> prediction (B, C', h, w)."""


class Modulation(NamedTuple):
    """Shift, scale and gate, each (B, 1 or N, D) or None; a modulation of Nones changes nothing."""

    shift: Tensor | None = None
    scale: Tensor | None = None
    gate: Tensor | None = None

    def modulate(self, x: Tensor) -> Tensor:
        """x (1 + scale) + shift, for x (B, N, D)."""
        if self.scale is None or self.shift is None:
            return x
        return torch.addcmul(self.shift, x, 1 + self.scale)

    def gated(self, x: Tensor) -> Tensor:
        """gate x, for x (B, N, D)."""
        return x if self.gate is None else x * self.gate


class Encoded(NamedTuple):
    """What a model's first blocks made of (x_t, t, label), to be kept and used again at other steps.

    depth    how many blocks were run
    tensors  each with the images along its first axis
    """

    depth: int
    tensors: tuple[Tensor, ...]


class Trainable(nn.Module):
    """What the training loop trains.

    null_label     the label that stands for "no class", or None where there is no such row
    class_dropout  share of training labels that the loop replaces by the null label
    """

    null_label: int | None = None
    class_dropout: float = 0.0


class Model(Trainable):
    """A network (x_t, t, label) -> prediction, and what training and guidance must know of it.

    classifies     whether it names the class of a noisy image, and predicts none
    encoder_depth  how many blocks `encode` runs where it is not told, 0 where the model cannot be split
    deepest        the last block that `tokens_after` may name, 0 where there is none
    width          channels of its tokens, 0 where they are not all as wide

    Two more arguments of the call are passed by name, in training alone. `augmentation` (B, entries) is the
    label of an augmentation, of a model that `add_augmentation` was called on. With `tokens_after` a model
    with a `deepest` gives a pair: the prediction, and the image's tokens after so many blocks, laid out as a
    map (B, width, rows, columns).
    """

    classifies = False
    encoder_depth = 0
    deepest = 0
    width = 0

    def add_augmentation(self, entries: int) -> None:
        """Adds the linear layer that brings an augmentation's label to the embedding of time. A label of
        zeros, or none, adds nothing. Raises ValueError where the model has no place for it.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be told how its images were augmented. Use augment=none."
        )

    def encode(self, x: Tensor, t: Tensor, label: Tensor | None = None, depth: int | None = None) -> Encoded:
        """Runs the first `depth` blocks alone. Raises ValueError where the model cannot."""
        raise ValueError(
            f"The blocks of {type(self).__name__} cannot be run apart, so none can be kept between steps. "
            "Use a model of one stack, such as model=ddt_b, dit_b or uvit_s."
        )

    def decode(self, x: Tensor, t: Tensor, label: Tensor | None, encoded: Encoded) -> Tensor:
        """The prediction for x_t at t from blocks run earlier; right after `encode` it is that of `forward`,
        bit for bit. Raises ValueError for what another batch or size of image was encoded to.
        """
        raise NotImplementedError

    def kept(self, encoded: Encoded) -> Tensor:
        """(B, N, D): what later steps use again. Its likeness at two steps tells what keeping it costs."""
        return encoded.tensors[0]


class TokenGrid(NamedTuple):
    """The image's tokens, which stand first and row by row; what is appended to them stands after."""

    rows: int
    columns: int


class SpatialAttention(nn.Module):
    """An attention that must know where tokens lie: called as (x, c, grid).

    reads_condition  whether it uses c, so that it can be all that conditions a model
    takes_appended   whether it takes tokens beyond the grid's
    """

    reads_condition = False
    takes_appended = True

    def check(self, grid: TokenGrid) -> None:
        """Raises ValueError for a grid that it cannot attend to."""


class Conditioning(nn.Module):
    """How time and label reach the blocks. This one brings c to the attention and does nothing else.

    Built as cond(width, depth), and with final=False where no head is to be modulated.

    `parts` are (B, n, D): time, then label where there is one; in DDT's decoder the encoder's state alone.
    Every `c` is (B, 1 or N, D).

    silent         whether c reaches nothing but the attention
    appended_from  the block before which tokens are appended, None where none are
    """

    silent = False
    appended_from: int | None = None

    def __init__(self, width: int, depth: int, final: bool = True) -> None:
        super().__init__()

    def join(self, x: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens x (B, N, D) and the parts -> x', c'. x' may have more tokens, appended last; the model drops
        them before its head.
        """
        return x, torch.stack(tuple(parts)).sum(0) if len(parts) > 1 else parts[0]

    def enter(self, i: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """The tokens that block i starts from; here, too, some may be appended."""
        return x

    def block(self, i: int, c: Tensor) -> tuple[Modulation, Modulation]:
        """The modulation of block i's attention and of its MLP."""
        return Modulation(), Modulation()

    def between(self, i: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """The tokens of block i between its attention and its MLP."""
        return x

    def final(self, c: Tensor) -> Modulation:
        """The modulation of the head's norm."""
        return Modulation()

    def reset_parameters(self) -> None:
        """Initial weights that are not those of any linear layer of the model."""

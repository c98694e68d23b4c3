"""Blocks with their conditioning, wherever a model has them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dit_exp.types.network import Conditioning, TokenGrid


class Context(NamedTuple):
    """What every block sees beside the tokens: the condition, the parts it is made of, the tokens' grid."""

    c: Tensor
    parts: Sequence[Tensor]
    grid: TokenGrid


def xavier(model: nn.Module) -> None:
    """Uniform weights by Xavier and no bias, for every linear layer in a model."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def condition(
    time: Tensor, label: Tensor | None, augmentation: Tensor | None, embedding: nn.Module | None
) -> list[Tensor]:
    """The condition's parts, each (B, 1, D): time, then label where there is one.

    time, label   their embeddings (B, D)
    augmentation  (B, entries), which `embedding` adds to the time's; None adds nothing
    """
    if augmentation is not None:
        assert embedding is not None
        time = time + embedding(augmentation)
    return [part[:, None] for part in (time, label) if part is not None]


def joined(
    cond: Conditioning, tokens: Tensor, parts: Sequence[Tensor], grid: TokenGrid
) -> tuple[Tensor, Context]:
    """Tokens (B, N, D) with what the conditioning appends, and what their blocks see."""
    tokens, c = cond.join(tokens, parts)
    return tokens, Context(c, parts, grid)


def apply_block(
    block: nn.Module, cond: Conditioning, i: int, tokens: Tensor, context: Context, remat: bool
) -> Tensor:
    """Tokens (B, N, D) through a block that is number i to its conditioning."""
    c, parts, grid = context
    # Mixed precision makes bfloat16 of a linear layer's answer; what blocks add up stays in float32.
    if tokens.dtype != torch.float32 and torch.is_autocast_enabled(tokens.device.type):
        tokens = tokens.float()
    tokens = cond.enter(i, tokens, parts)
    arguments = tokens, c, *cond.block(i, c), grid, functools.partial(cond.between, i, parts=parts)
    return checkpoint(block, *arguments, use_reentrant=False) if remat else block(*arguments)  # type: ignore


def check_kept(kept: Tensor, needed: Tensor) -> None:
    """Raises ValueError where tokens (B, N, D) were kept of another batch or size of image."""
    if kept.shape != needed.shape:
        raise ValueError(
            f"The kept blocks are of tokens {tuple(kept.shape)}, and these images have "
            f"{tuple(needed.shape)}. Encode anew where the batch or the image size changes."
        )


def check_together(blocks: Iterable[nn.Module], cond: Conditioning, grid: TokenGrid) -> None:
    """Raises ValueError for blocks whose attention does not go with the conditioning or the grid."""
    for attn in (block.get_submodule("attn") for block in blocks):
        if cond.silent and not getattr(attn, "reads_condition", False):
            raise ValueError(
                "cond=none leaves the condition to the attention, and this attention does not read it. Use "
                "attn=tmsa, or cond=adaln."
            )
        if cond.appended_from is not None and not getattr(attn, "takes_appended", True):
            raise ValueError(
                "This conditioning appends tokens, and an attention in windows has no place for them. Use "
                "attn.window=null, or cond=adaln."
            )
        if check := getattr(attn, "check", None):
            check(grid)

"""Images to tokens and back.

Patches leave in (channel, row, column) order, as a strided convolution flattens them; DiT's head writes
them in (row, column, channel) order. The two differ on purpose: published checkpoints depend on it. DDT's
head writes as it reads.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor


def patchify(image: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, (H/p)(W/p), C p p), row-major tokens, channel slowest inside a patch."""
    return rearrange(image, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """(B, (H/p)(W/p), p p C) -> (B, C, H, W), channel fastest inside a patch."""
    rows, columns = height // patch, width // patch
    return rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=rows, w=columns, p=patch, q=patch)


def fold(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """(B, (H/p)(W/p), C p p) -> (B, C, H, W), channel slowest inside a patch: undoes `patchify`."""
    rows, columns = height // patch, width // patch
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, w=columns, p=patch, q=patch)


def laid_out(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """(B, N, D) -> (B, D, rows, columns): the image's tokens as a map, without those appended after them."""
    return rearrange(tokens[:, : rows * columns], "b (h w) d -> b d h w", h=rows, w=columns)

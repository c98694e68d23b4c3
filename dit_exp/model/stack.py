"""What models of one stack of blocks share: embeddings, the way through the blocks, and the split of it.

A model is a function of (x_t, t, label). It knows neither noise nor loss; its attention and its conditioning
are handed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dit_exp.checkpoint import load_weights
from dit_exp.model.blocks import Context, apply_block, check_kept, check_together, condition, joined, xavier
from dit_exp.model.published import renamed
from dit_exp.nn.embed import AugmentationEmbedding, LabelEmbedding, Sinusoid, TimeEmbedding, sincos_2d
from dit_exp.nn.linear import Linear
from dit_exp.nn.mlp import Mlp
from dit_exp.nn.norm import layer_norm
from dit_exp.nn.patch import laid_out, patchify, unpatchify
from dit_exp.nn.position import resized
from dit_exp.nn.transformer import Block
from dit_exp.types.network import Encoded, Model, TokenGrid

Weights = Mapping[str, Tensor]


class Stack(Model):
    """(x_t (B, C, H, W), t (B,), label (B,) or None) -> (B, out_channels, H, W), for any H and W that
    `patch_size` divides.

    input_shape  (C, H, W) of what is denoised: an image or a latent
    attn, cond   builders attn(width, heads) and cond(width, depth)
    num_classes  0 for an unconditional model
    class_dropout  share of training labels replaced by the null label; above 0 the label table gets its null
                   row, `null_label`, which classifier-free guidance needs
    bottleneck   channels that a patch is first brought to by a linear layer without bias, None for none
    remat        recompute each block in the backward pass instead of keeping its activations
    checkpoint   weights in the layout in which the model was published. In the configuration the path of the
                 file, which build.py reads
    Raises ValueError if the patch does not divide the input, or if parts do not go together; UserError for
    weights of another architecture.

    What goes through the blocks is a tuple whose first entry is the tokens; a model with long skips carries
    more. Kept blocks are used again by adding to what they gave what the tokens before them have changed by.
    """

    published: ClassVar[Mapping[str, str]] = {}
    """Patterns of the published names of weights, without .weight or .bias -> ours."""

    norm_of: Callable[[int], nn.Module] = staticmethod(layer_norm)
    mlp_of: Callable[[int, float], nn.Module] = staticmethod(Mlp)

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        out_channels: int,
        num_classes: int,
        attn: Callable[..., nn.Module],
        cond: Callable[..., Any],
        depth: int,
        width: int,
        heads: int,
        patch_size: int,
        mlp_ratio: float = 4.0,
        class_dropout: float = 0.1,
        bottleneck: int | None = None,
        remat: bool = False,
        checkpoint: Weights | None = None,
    ) -> None:
        super().__init__()
        channels, rows, columns = input_shape
        if min(depth, width, heads, patch_size) < 1:
            raise ValueError(
                f"model.depth={depth}, model.width={width}, model.heads={heads} and "
                f"model.patch_size={patch_size} must be at least 1."
            )
        self.patch_size, self.num_classes, self.class_dropout = patch_size, num_classes, class_dropout
        depth = self.blocks_of(depth)
        self.remat, self.encoder_depth = remat, max(1, 2 * depth // 3)
        self.deepest, self.width = depth, width
        self.grid = self.grid_of(rows, columns)
        self.patch = self.patch_of(channels * patch_size**2, bottleneck, width)
        self.time = self.time_of(width)
        self.label = LabelEmbedding(num_classes, width, null=class_dropout > 0) if num_classes else None
        self.null_label = self.label.null_label if self.label else None
        self.augmentation: nn.Module | None = None
        self.cond = cond(width=width, depth=depth)
        self.blocks = nn.ModuleList(
            Block(width, attn(width=width, heads=heads), self.mlp_of(width, mlp_ratio), self.norm_of)
            for _ in range(depth)
        )
        check_together(self.blocks, self.cond, self.grid)
        self.norm = self.norm_of(width)
        self.head = Linear(width, patch_size**2 * out_channels)
        self.add(input_shape, out_channels, width)
        self.reset_parameters()
        if checkpoint is not None:
            if not self.published:
                raise ValueError(f"No published layout of weights is known for {type(self).__name__}.")
            load_weights(self, renamed(checkpoint, self.published), "model.checkpoint")

    def add(self, input_shape: tuple[int, int, int], out_channels: int, width: int) -> None:
        """What the model has beside the stack: a fixed table of positions."""
        self.position: Tensor
        self.register_buffer("position", sincos_2d(*self.grid, width))

    def add_augmentation(self, entries: int) -> None:
        self.augmentation = AugmentationEmbedding(entries, self.width)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        augmentation: Tensor | None = None,
        tokens_after: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        tokens, context = self.begin(x, t, label, augmentation)
        early = tokens_after or 0
        seen, *skips = self.through(range(early), (tokens,), context)
        [tokens, *_] = self.through(range(early, len(self.blocks)), (seen, *skips), context)
        out = self.finish(tokens, context, x)
        return out if tokens_after is None else (out, laid_out(seen, *context.grid))

    def encode(self, x: Tensor, t: Tensor, label: Tensor | None = None, depth: int | None = None) -> Encoded:
        depth = self.encoder_depth if depth is None else depth
        if not 1 <= depth <= len(self.blocks):
            raise ValueError(f"{depth} blocks cannot be kept of a model that has {len(self.blocks)}.")
        tokens, context = self.begin(x, t, label)
        after, *skips = self.through(range(depth), (tokens,), context)
        return Encoded(depth, (after, tokens, *skips))

    def decode(self, x: Tensor, t: Tensor, label: Tensor | None, encoded: Encoded) -> Tensor:
        tokens, context = self.begin(x, t, label)
        after, before, *skips = encoded.tensors
        check_kept(before, tokens)
        change = tokens - before
        carried = tuple(
            torch.cat([v[:, : change.shape[1]] + change, v[:, change.shape[1] :]], dim=1)
            for v in (after, *skips)
        )
        [tokens, *_] = self.through(range(encoded.depth, len(self.blocks)), carried, context)
        return self.finish(tokens, context, x)

    def kept(self, encoded: Encoded) -> Tensor:
        """What the blocks have added: `decode` adds it to the tokens of another step."""
        after, before, *_ = encoded.tensors
        return after[:, : before.shape[1]] - before

    def begin(
        self, x: Tensor, t: Tensor, label: Tensor | None, augmentation: Tensor | None = None
    ) -> tuple[Tensor, Context]:
        """The tokens before the first block, and what all blocks see."""
        grid = self.grid_of(*x.shape[-2:])
        embedded = self.label(label) if self.label is not None else None
        parts = condition(self.time(t), embedded, augmentation, self.augmentation)
        return joined(self.cond, self.embed(x, grid), parts, grid)

    def embed(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """The image's tokens (B, N, width). The table is interpolated for an image of another size."""
        return self.patch(patchify(x, self.patch_size)) + resized(self.position, self.grid, grid)

    def through(
        self, blocks: Iterable[int], carried: tuple[Tensor, ...], context: Context
    ) -> tuple[Tensor, ...]:
        for i in blocks:
            carried = self.step(i, carried, context)
        return carried

    def step(self, i: int, carried: tuple[Tensor, ...], context: Context) -> tuple[Tensor, ...]:
        """Block i."""
        tokens, *skips = carried
        remat = self.remat and self.training
        return apply_block(self.blocks[i], self.cond, i, tokens, context, remat), *skips

    def finish(self, tokens: Tensor, context: Context, x: Tensor) -> Tensor:
        """The prediction, shaped like the image x, from the tokens after the last block."""
        count = context.grid.rows * context.grid.columns
        tokens = self.cond.final(context.c).modulate(self.norm(tokens[:, :count]))
        return self.image(self.project(tokens), *x.shape[-2:])

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, width) -> patches (B, N, p p C')."""
        return self.head(tokens)

    def image(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """(B, N, p p C') -> (B, C', rows, columns)."""
        return unpatchify(patches, self.patch_size, rows, columns)

    def blocks_of(self, depth: int) -> int:
        """How many blocks the stack has."""
        return depth

    def patch_of(self, channels: int, bottleneck: int | None, width: int) -> nn.Module:
        """What makes a token of a patch."""
        if bottleneck is None:
            return Linear(channels, width)
        return nn.Sequential(Linear(channels, bottleneck, bias=False), Linear(bottleneck, width))

    def time_of(self, width: int) -> TimeEmbedding | Sinusoid:
        """What makes (B, width) of the time (B,)."""
        return TimeEmbedding(width)

    def grid_of(self, rows: int, columns: int) -> TokenGrid:
        """The tokens of an image of a size."""
        if rows % self.patch_size or columns % self.patch_size:
            raise ValueError(
                f"The input is {rows}x{columns}, and model.patch_size={self.patch_size} does not divide it. "
                "Change model.patch_size, data.image_size or the autoencoder."
            )
        return TokenGrid(rows // self.patch_size, columns // self.patch_size)

    def reset_parameters(self) -> None:
        """Xavier for every linear layer; then the embeddings, the modulation and the head their own way."""
        xavier(self)
        self.reset_ends()

    def reset_ends(self) -> None:
        """Embeddings and modulation, and a head of zero."""
        for module in (self.time, self.label, self.cond):
            if module is not None:
                module.reset_parameters()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

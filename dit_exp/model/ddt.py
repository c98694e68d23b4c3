"""DDT: an encoder of what is there, whose state conditions a decoder token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from dit_exp.model.blocks import check_kept, joined, xavier
from dit_exp.model.stack import Stack
from dit_exp.nn.embed import TimeEmbedding
from dit_exp.nn.linear import Linear
from dit_exp.nn.mlp import SwiGLU
from dit_exp.nn.norm import RMSNorm, layer_norm
from dit_exp.nn.patch import fold, laid_out, patchify
from dit_exp.nn.position import resized
from dit_exp.types.network import Encoded, SpatialAttention, TokenGrid


class DDT(Stack):
    """The first blocks read x_t, time and label; the others read x_t anew, conditioned by what those gave.

    The encoder's tokens plus the embedding of time are the decoder's condition, (B, N, width), so its
    modulation differs from token to token and the label enters through it alone. Blocks have RMS norms and
    SwiGLU, and with attn=rope rotary positions; an attention that does not know places gets DiT's table.
    fresh_t  add the embedding of the present time to a kept state, and not of the time it was made at, as the
             released code does
    What else it takes, see `model.stack`. Initial weights are the released code's with cond=adaln_open, and
    adaLN-Zero's, of which the paper speaks, with cond=adaln; the output is 0 with both.
    Source: Wang et al. 2025, arXiv:2504.05741. Raises ValueError for a conditioning that appends tokens.
    """

    norm_of = RMSNorm
    mlp_of = SwiGLU

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        out_channels: int,
        num_classes: int,
        attn: Callable[..., nn.Module],
        cond: Callable[..., Any],
        encoder_depth: int,
        decoder_depth: int,
        width: int,
        heads: int,
        patch_size: int,
        mlp_ratio: float = 4.0,
        class_dropout: float = 0.1,
        fresh_t: bool = False,
        remat: bool = False,
    ) -> None:
        if min(encoder_depth, decoder_depth) < 1:
            raise ValueError(
                f"model.encoder_depth={encoder_depth} and model.decoder_depth={decoder_depth} must be at "
                "least 1."
            )
        super().__init__(
            input_shape,
            out_channels,
            num_classes,
            attn,
            cond,
            encoder_depth + decoder_depth,
            width,
            heads,
            patch_size,
            mlp_ratio,
            class_dropout,
            remat=remat,
        )
        self.encoder_depth = self.deepest = encoder_depth
        self.fresh_t = fresh_t

    def add(self, input_shape: tuple[int, int, int], out_channels: int, width: int) -> None:
        if self.cond.appended_from is not None:
            raise ValueError(
                "model=ddt conditions its decoder token by token, and this conditioning appends tokens. Use "
                "cond=adaln, adaln_open, adaln_plain, adaln_single or cross."
            )
        self.encoder_patch = Linear(input_shape[0] * self.patch_size**2, width)
        self.norm = layer_norm(width)  # the head's has no gain, unlike those of the blocks
        self.placed = isinstance(self.blocks[0].get_submodule("attn"), SpatialAttention)
        if not self.placed:
            super().add(input_shape, out_channels, width)

    def time_of(self, width: int) -> TimeEmbedding:
        """Time as a number in [0, 1] at frequencies from 1 to 0.1."""
        return TimeEmbedding(width, max_period=10.0, scale=1e-3)

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
        [seen] = self.through(range(early), (tokens,), context)
        [tokens] = self.through(range(early, self.encoder_depth), (seen,), context)
        out = self.decode(x, t, label, self.state(tokens, t))
        return out if tokens_after is None else (out, laid_out(seen, *context.grid))

    def encode(self, x: Tensor, t: Tensor, label: Tensor | None = None, depth: int | None = None) -> Encoded:
        """All of the encoder; the state is its tokens, with the embedding of time unless `fresh_t`."""
        if depth not in (None, self.encoder_depth):
            raise ValueError(
                f"model=ddt keeps its whole encoder, model.encoder_depth={self.encoder_depth} blocks, "
                f"not {depth}."
            )
        tokens, context = self.begin(x, t, label)
        [tokens] = self.through(range(self.encoder_depth), (tokens,), context)
        return self.state(tokens, t)

    def embed(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """The encoder's tokens."""
        return self.at_places(self.encoder_patch(patchify(x, self.patch_size)), grid)

    def at_places(self, tokens: Tensor, grid: TokenGrid) -> Tensor:
        """Tokens with what tells their places, where their attention does not."""
        return tokens if self.placed else tokens + resized(self.position, self.grid, grid)

    def state(self, tokens: Tensor, t: Tensor) -> Encoded:
        """What the encoder's last tokens (B, N, width) are to the decoder."""
        return Encoded(self.encoder_depth, (tokens if self.fresh_t else tokens + self.time(t)[:, None],))

    def decode(self, x: Tensor, t: Tensor, label: Tensor | None, encoded: Encoded) -> Tensor:
        grid = self.grid_of(*x.shape[-2:])
        [state] = encoded.tensors
        if self.fresh_t:
            state = state + self.time(t)[:, None]
        tokens = self.at_places(self.patch(patchify(x, self.patch_size)), grid)
        check_kept(state, tokens)
        tokens, context = joined(self.cond, tokens, [state], grid)
        [tokens] = self.through(range(self.encoder_depth, len(self.blocks)), (tokens,), context)
        return self.finish(tokens, context, x)

    def kept(self, encoded: Encoded) -> Tensor:
        """The state as every modulation of the decoder sees it."""
        return silu(encoded.tensors[0])

    def image(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        return fold(patches, self.patch_size, rows, columns)

    def reset_parameters(self) -> None:
        """Only the patches by Xavier; the blocks as torch's linear layers start."""
        for layer in (self.patch, self.encoder_patch):
            xavier(layer)
        self.reset_ends()

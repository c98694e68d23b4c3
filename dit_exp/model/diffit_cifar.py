"""DiffiT on pixels: a U-shaped network of convolutions and transformer blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import silu

from dit_exp.model.blocks import apply_block, check_kept, check_together, condition, joined, xavier
from dit_exp.nn.embed import AugmentationEmbedding, LabelEmbedding, TimeEmbedding
from dit_exp.nn.linear import Linear
from dit_exp.nn.mlp import Mlp
from dit_exp.nn.norm import layer_norm
from dit_exp.nn.transformer import Block
from dit_exp.types.network import Conditioning, Encoded, Model, TokenGrid


class _ResBlock(nn.Module):
    """What goes into a transformer block and what goes beside it: (B, width, H, W) -> two (B, out, H, W)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.conv = nn.Conv2d(width, out, 3, padding=1)
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(silu(self.norm(x))), self.skip(x)


class _Stage(nn.Module):
    """Residual blocks x -> block(conv(SiLU(norm(x)))) + skip(x) at one resolution.

    (B, wide_in, H, W) and the condition's parts (B, 1, time_width) -> (B, width, H, W).
    """

    def __init__(
        self,
        wide_in: int,
        width: int,
        depth: int,
        heads: int,
        grid: TokenGrid,
        attn: Callable[..., nn.Module],
        cond: Callable[..., Any],
        time_width: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.condition = Linear(time_width, width)
        self.cond = cond(width=width, depth=depth, final=False)
        if self.cond.appended_from is not None:
            raise ValueError(
                "model=diffit_cifar is an image between any two blocks and carries no appended tokens. Use "
                "cond=none with attn=tmsa, or cond=adaln."
            )
        self.around = nn.ModuleList(_ResBlock(width if i else wide_in, width) for i in range(depth))
        self.blocks = nn.ModuleList(
            Block(width, attn(width=width, heads=heads), Mlp(width, mlp_ratio), layer_norm)
            for _ in range(depth)
        )
        check_together(self.blocks, self.cond, grid)

    def forward(self, x: Tensor, parts: Sequence[Tensor], remat: bool) -> Tensor:
        grid = TokenGrid(*x.shape[-2:])
        parts = [self.condition(part) for part in parts]
        for i, (around, block) in enumerate(zip(self.around, self.blocks, strict=True)):
            image, beside = around(x)
            tokens, context = joined(self.cond, rearrange(image, "b d h w -> b (h w) d"), parts, grid)
            tokens = apply_block(block, self.cond, i, tokens, context, remat)
            x = beside + rearrange(tokens, "b (h w) d -> b d h w", h=grid.rows)
        return x


class DiffiTImage(Model):
    """(x_t (B, C, H, W), t (B,), label (B,) or None) -> (B, out_channels, H, W).

    `stages` resolutions, each half the one before, with `depth` residual blocks each on the way down, at the
    bottom and on the way up, where what the way down gave is put beside it. The first stage is `width` wide,
    the others twice that, with as many channels a head. Time and label are embedded in `time_width` channels
    and brought to each stage's width by a linear layer.
    With attn=tmsa_window and cond=none it is DiffiT's for CIFAR-10, whose paper states `depth` twice: as 2 in
    its appendix I.1 and as 4 in H.1.
    remat, class_dropout  as in `model.stack`
    Source: Hatamizadeh et al. 2023, arXiv:2312.02139. Raises ValueError for an input that cannot be halved as
    often, and for a conditioning that appends tokens.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        out_channels: int,
        num_classes: int,
        attn: Callable[..., nn.Module],
        cond: Callable[..., Any],
        depth: int,
        stages: int,
        width: int,
        heads: int,
        time_width: int = 512,
        mlp_ratio: float = 4.0,
        class_dropout: float = 0.1,
        remat: bool = False,
    ) -> None:
        super().__init__()
        channels, rows, columns = input_shape
        if min(depth, stages, width, heads, time_width) < 1 or width % 4:
            raise ValueError(
                f"model.depth={depth}, model.stages={stages}, model.heads={heads} and "
                f"model.time_width={time_width} must be at least 1, and model.width={width} a multiple of 4."
            )
        self.num_classes, self.class_dropout, self.remat = num_classes, class_dropout, remat
        self.halvings, self.time_width = stages - 1, time_width
        self.check(rows, columns)
        self.encoder_depth = stages * depth if stages > 1 else 0
        self.time = TimeEmbedding(time_width)
        self.label = LabelEmbedding(num_classes, time_width, null=class_dropout > 0) if num_classes else None
        self.null_label = self.label.null_label if self.label else None
        self.augmentation: nn.Module | None = None
        widths = [width if i == 0 else 2 * width for i in range(stages)]

        def stage(i: int, wide_in: int) -> _Stage:
            grid = TokenGrid(rows >> i, columns >> i)
            own_heads = heads * widths[i] // width
            return _Stage(wide_in, widths[i], depth, own_heads, grid, attn, cond, time_width, mlp_ratio)

        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(stage(i, widths[max(i - 1, 0)]) for i in range(stages))
        self.up = nn.ModuleList(stage(i, widths[i + 1] + widths[i]) for i in reversed(range(stages - 1)))
        self.shrink = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.grow = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in reversed(widths[1:]))
        self.norm = group_norm(width)
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)
        self.reset_parameters()

    def add_augmentation(self, entries: int) -> None:
        self.augmentation = AugmentationEmbedding(entries, self.time_width)

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, augmentation: Tensor | None = None
    ) -> Tensor:
        parts = self.parts(t, label, augmentation)
        bottom, *beside = self.way_down(self.begin(x), parts)
        return self.way_up(bottom, beside, parts)

    def encode(self, x: Tensor, t: Tensor, label: Tensor | None = None, depth: int | None = None) -> Encoded:
        """The way down and the bottom, whole."""
        if not self.halvings:
            return super().encode(x, t, label, depth)  # refuses: nothing is left to run
        if depth not in (None, self.encoder_depth):
            raise ValueError(
                f"model=diffit_cifar keeps its whole way down, {self.encoder_depth} blocks, not {depth}."
            )
        begun = self.begin(x)
        return Encoded(self.encoder_depth, (*self.way_down(begun, self.parts(t, label)), begun))

    def decode(self, x: Tensor, t: Tensor, label: Tensor | None, encoded: Encoded) -> Tensor:
        """The way up, to which the first stage brings what the image has changed by since."""
        bottom, *beside, before = encoded.tensors
        begun = self.begin(x)
        check_kept(before, begun)
        first, *others = beside
        return self.way_up(bottom, [first + (begun - before), *others], self.parts(t, label))

    def kept(self, encoded: Encoded) -> Tensor:
        """The bottom's tokens."""
        return rearrange(encoded.tensors[0], "b d h w -> b (h w) d")

    def begin(self, x: Tensor) -> Tensor:
        self.check(*x.shape[-2:])
        return self.stem(x)

    def parts(self, t: Tensor, label: Tensor | None, augmentation: Tensor | None = None) -> list[Tensor]:
        embedded = self.label(label) if self.label is not None else None
        return condition(self.time(t), embedded, augmentation, self.augmentation)

    def way_down(self, x: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the bottom gives, then what each stage above it puts beside the way up, from the first."""
        beside: list[Tensor] = []
        for i, stage in enumerate(self.down):
            x = stage(x, parts, self.remat and self.training)
            if i < self.halvings:
                beside.append(x)
                x = self.shrink[i](x)
        return x, *beside

    def way_up(self, x: Tensor, beside: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
        for stage, grow, other in zip(self.up, self.grow, reversed(beside), strict=True):
            x = grow(nn.functional.interpolate(x, scale_factor=2.0))
            x = stage(torch.cat([x, other], dim=1), parts, self.remat and self.training)
        return self.head(silu(self.norm(x)))

    def check(self, rows: int, columns: int) -> None:
        """Raises ValueError for images that cannot be halved so often."""
        if rows % (1 << self.halvings) or columns % (1 << self.halvings):
            raise ValueError(
                f"The input is {rows}x{columns} and is halved {self.halvings} times (model.stages - 1). "
                "Change model.stages or data.image_size."
            )

    def reset_parameters(self) -> None:
        """Xavier for every linear layer, torch's own for the convolutions, a head of zero."""
        xavier(self)
        self.time.reset_parameters()
        if self.label is not None:
            self.label.reset_parameters()
        for module in self.modules():
            if isinstance(module, Conditioning):
                module.reset_parameters()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]


def group_norm(width: int) -> nn.GroupNorm:
    """Groups of at least four channels, 32 groups for the published widths."""
    return nn.GroupNorm(math.gcd(32, width // 4), width)

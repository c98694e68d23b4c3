"""Diffusion Transformer: patches in, one stack of equal blocks, patches out.

The model is a function of (x_t, t, label). It knows neither noise nor loss; its attention and its
conditioning are handed to it. Source: Peebles & Xie 2022, arXiv:2212.09748.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dit_exp.nn.embed import LabelEmbedding, TimeEmbedding, sincos_2d
from dit_exp.nn.patch import patchify, unpatchify
from dit_exp.nn.transformer import Block
from dit_exp.types import Model


class DiT(Model):
    """(x_t (B, C, H, W), t (B,), label (B,) or None) -> (B, out_channels, H, W).

    input_shape  (C, H, W) of what is denoised: an image or a latent
    attn, cond   builders attn(width, heads) and cond(width, depth)
    num_classes  0 for an unconditional model
    class_dropout  share of training labels replaced by the null label; above 0 the label table gets its null
                   row, `null_label`, which classifier-free guidance needs
    remat        recompute each block in the backward pass instead of keeping its activations
    Raises ValueError if the patch does not divide the input.
    """

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
        remat: bool = False,
    ) -> None:
        super().__init__()
        channels, rows, columns = input_shape
        if min(depth, width, heads, patch_size) < 1:
            raise ValueError(
                f"model.depth={depth}, model.width={width}, model.heads={heads} and "
                f"model.patch_size={patch_size} must be at least 1."
            )
        if rows % patch_size or columns % patch_size:
            raise ValueError(
                f"The input is {rows}x{columns}, and model.patch_size={patch_size} does not divide it. "
                "Change model.patch_size or data.image_size."
            )
        self.patch_size, self.num_classes, self.class_dropout = patch_size, num_classes, class_dropout
        self.remat = remat
        self.patch = nn.Linear(channels * patch_size**2, width)
        self.time = TimeEmbedding(width)
        self.label = LabelEmbedding(num_classes, width, null=class_dropout > 0) if num_classes else None
        self.null_label = self.label.null_label if self.label else None
        self.cond = cond(width=width, depth=depth)
        self.blocks = nn.ModuleList(
            Block(width, attn(width=width, heads=heads), mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.head = nn.Linear(width, patch_size**2 * out_channels)
        self.position: Tensor
        self.register_buffer("position", sincos_2d(rows // patch_size, columns // patch_size, width))
        self.reset_parameters()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        parts = [self.time(t)[:, None]]
        if self.label is not None:
            parts.append(self.label(label)[:, None])
        tokens = self.patch(patchify(x, self.patch_size)) + self.position
        count = tokens.shape[1]
        tokens, c = self.cond.join(tokens, parts)
        for i, block in enumerate(self.blocks):
            modulations = self.cond.block(i, c)
            if self.remat and self.training:
                tokens = checkpoint(block, tokens, c, *modulations, use_reentrant=False)
            else:
                tokens = block(tokens, c, *modulations)
        tokens = self.cond.final(c).modulate(self.norm(tokens[:, :count]))
        return unpatchify(self.head(tokens), self.patch_size, height, width)

    def reset_parameters(self) -> None:
        """Xavier for every linear layer; then the embeddings, the modulation and the head their own way."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.time.reset_parameters()
        if self.label is not None:
            self.label.reset_parameters()
        self.cond.reset_parameters()
        nn.init.zeros_(self.head.weight)


def count_parameters(model: nn.Module) -> int:
    """Trained parameters; the fixed position table is not among them."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_gmac(model: nn.Module, input_shape: tuple[int, int, int], num_classes: int) -> float:
    """Multiply-adds of one image's forward pass, in 1e9, counted by torch's FLOP counter.

    The DiT paper calls this unit "Gflops".
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    label = torch.zeros(1, dtype=torch.long, device=device) if num_classes else None
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *input_shape, device=device), torch.zeros(1, device=device), label)
    return counter.get_total_flops() / 2e9

"""Every transformer at a tiny size, with the parts that it was published with."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.attn.rope import RotaryAttention
from dit_exp.attn.tmsa import TimeDependentAttention
from dit_exp.cond.adaln import AdaLNZero
from dit_exp.cond.adaln_open import AdaLNOpen
from dit_exp.cond.incontext import InContextClass
from dit_exp.cond.none import AttentionOnly
from dit_exp.cond.token import ConditionToken
from dit_exp.model.ddt import DDT
from dit_exp.model.diffit_cifar import DiffiTImage
from dit_exp.model.diffit_latent import DiffiTLatent
from dit_exp.model.dit import DiT
from dit_exp.model.hourglass import Hourglass
from dit_exp.model.jit import JiT
from dit_exp.model.uvit import UViT

SHAPE = (3, 8, 8)
SIZES = {"width": 32, "heads": 4, "patch_size": 2}
TMSA = functools.partial(TimeDependentAttention, extent=4)
WINDOWS = functools.partial(TimeDependentAttention, window=2, extent=2)
CLASS_TOKENS = functools.partial(InContextClass, tokens=3, start=1)

STACKS: dict[str, Callable[..., nn.Module]] = {
    "dit": functools.partial(DiT, attn=MultiHeadAttention, cond=AdaLNZero, depth=4, **SIZES),
    "dit_token": functools.partial(DiT, attn=MultiHeadAttention, cond=ConditionToken, depth=4, **SIZES),
    "ddt": functools.partial(
        DDT, attn=RotaryAttention, cond=AdaLNOpen, encoder_depth=3, decoder_depth=2, **SIZES
    ),
    "diffit_latent": functools.partial(DiffiTLatent, attn=TMSA, cond=AttentionOnly, depth=4, **SIZES),
    "uvit": functools.partial(UViT, attn=MultiHeadAttention, cond=ConditionToken, depth=4, **SIZES),
    "jit": functools.partial(JiT, attn=RotaryAttention, cond=CLASS_TOKENS, depth=4, bottleneck=5, **SIZES),
    "hourglass": functools.partial(
        Hourglass, attn=RotaryAttention, cond=AdaLNZero, depth=1, inner_depth=2, **SIZES
    ),
}
"""Models whose first blocks can be run apart."""

NETWORKS = STACKS | {
    "diffit_cifar": functools.partial(
        DiffiTImage, attn=WINDOWS, cond=AttentionOnly, depth=1, stages=3, width=32, heads=4, time_width=16
    ),
}


def network(name: str, shape: tuple[int, int, int] = SHAPE, classes: int = 10, **keys) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](input_shape=shape, out_channels=3, num_classes=classes, **keys)


def randomized(model: nn.Module) -> nn.Module:
    """The same model with every weight drawn, so that nothing is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return model.eval()


def images(rows: int = 8, columns: int = 8, count: int = 2, seed: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, rows, columns, generator=torch.Generator().manual_seed(seed))

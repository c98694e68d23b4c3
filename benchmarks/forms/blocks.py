"""What the blocks of a network are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention, silu

from benchmarks.forms.kind import Kind
from benchmarks.paired import Job, Setting
from benchmarks.peers import S4, TINY
from dit_exp.device import compiled
from dit_exp.nn.attention import attention
from dit_exp.nn.linear import Linear
from dit_exp.nn.mlp import gelu
from dit_exp.nn.relative import RelativeBias
from dit_exp.types.network import TokenGrid


def modulations(setting: Setting) -> Kind:
    size, images = (TINY, 2) if setting.quick else (S4, 32)
    torch.manual_seed(0)
    blocks = [nn.Linear(size.width, 6 * size.width) for _ in range(size.depth)]
    weight, bias = (torch.cat([getattr(b, name) for b in blocks]) for name in ("weight", "bias"))
    c = torch.randn(images, 1, size.width)

    @torch.no_grad()
    def each() -> Tensor:
        return torch.cat([block(silu(c)) for block in blocks], dim=-1)

    @torch.no_grad()
    def together() -> Tensor:
        return nn.functional.linear(silu(c), weight, bias)

    what = f"modulation of {size.depth} blocks, {images} images"
    return Kind(what, {"a product for each block": each, "one product": together}, 1e-4)


def attentions(setting: Setting) -> Kind:
    """Both passes of one block, whose queries, keys and values come from one product."""
    size, images = (TINY, 2) if setting.quick else (S4, 16)
    tokens = (size.side // size.patch) ** 2
    g = torch.Generator().manual_seed(0)
    shape = (images, tokens, 3, size.heads, size.width // size.heads)
    together = torch.randn(shape, generator=g).bfloat16().requires_grad_()
    grad = torch.randn(images, size.heads, tokens, shape[-1], generator=g).bfloat16()

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q.float(), k.float(), v.float()
        return ((q.shape[-1] ** -0.5 * q @ k.mT).softmax(-1) @ v).bfloat16()

    def job(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Job:
        def passes() -> Tensor:
            q, k, v = together.permute(2, 0, 3, 1, 4)
            [found] = torch.autograd.grad(form(q, k, v), together, grad)
            return found.float().norm(dim=-1)  # single numbers of bfloat16 differ by what was rounded

        return passes

    forms = {
        "products, the weights in float32": job(attention),
        "torch's": job(scaled_dot_product_attention),
        "products in float32": job(plain),
    }
    return Kind(f"attention of {images} images of {tokens} tokens, bf16, there and back", forms, 0.05)


def answers(setting: Setting) -> Kind:
    """The same where no gradient is wanted, compiled as when images are drawn."""
    size, images = (TINY, 2) if setting.quick else (S4, 16)
    shape = (images, (size.side // size.patch) ** 2, 3, size.heads, size.width // size.heads)
    together = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()

    def job(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Job:
        def tokens(together: Tensor) -> Tensor:
            q, k, v = together.permute(2, 0, 3, 1, 4)
            return form(q, k, v).transpose(1, 2).flatten(2)

        fast = compiled(tokens, True)
        return torch.no_grad()(lambda: fast(together).float().norm(dim=-1))

    forms = {"products": job(attention), "torch's": job(scaled_dot_product_attention)}
    return Kind(f"attention of {images} images, bf16, compiled, forwards alone", forms, 0.05)


def gelus(setting: Setting) -> Kind:
    """Both passes, compiled: eager ones both use torch's."""
    rows, columns = (2, 64) if setting.quick else (1024, 4 * S4.width)
    g = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(rows, columns, generator=g).bfloat16() for _ in range(2))
    x.requires_grad_()

    def job(form: Callable[[Tensor], Tensor]) -> Job:
        fast = compiled(form, True)

        def passes() -> Tensor:
            [found] = torch.autograd.grad(fast(x), x, grad)
            return found.float().norm(dim=-1)

        return passes

    forms = {"by a sigmoid": job(gelu), "torch's": job(partial(functional.gelu, approximate="tanh"))}
    return Kind(f"GELU of {rows} x {columns}, bf16, compiled, there and back", forms, 0.05)


def products(setting: Setting) -> Kind:
    """The first half of an MLP, eager, where no gradient is wanted."""
    rows, width = (64, 64) if setting.quick else (1024, S4.width)
    linear, g = Linear(width, 4 * width), torch.Generator().manual_seed(0)
    x = torch.randn(rows, width, generator=g)

    def job(form: Callable[[Tensor], Tensor]) -> Job:
        def product() -> Tensor:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                return form(x).float().norm(dim=-1)

        return product

    forms = {"together": job(linear.gelu), "one after the other": job(lambda x: gelu(linear(x)))}
    return Kind(f"product of {rows} x {width} x {4 * width} with GELU, bf16, eager", forms, 0.01)


def weights(setting: Setting) -> Kind:
    """The first linear layer of an MLP where images are drawn: its weights do not change."""
    rows, width = (64, 64) if setting.quick else (1024, S4.width)
    linear, g = Linear(width, 4 * width), torch.Generator().manual_seed(0)
    cast = copy.deepcopy(linear).to(torch.bfloat16)
    packed = copy.deepcopy(cast)
    packed.pack()
    x = torch.randn(rows, width, generator=g)

    def job(layer: Linear) -> Job:
        def product() -> Tensor:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                return layer(x).float().norm(dim=-1)

        return product

    forms = {"cast and packed before": packed, "cast before": cast, "cast each time": linear}
    what = f"linear layer of {rows} x {width} x {4 * width}, bf16, forwards alone"
    return Kind(what, {name: job(layer) for name, layer in forms.items()}, 0.01)


def linears(setting: Setting) -> Kind:
    """Both passes of the first linear layer of an MLP."""
    rows, width = (64, 64) if setting.quick else (2048, S4.width)
    linear, g = Linear(width, 4 * width), torch.Generator().manual_seed(0)
    x, grad = (torch.randn(rows, n, generator=g) for n in (width, 4 * width))
    x.requires_grad_()

    def job(form: Callable[[nn.Linear, Tensor], Tensor]) -> Job:
        def passes() -> Tensor:
            return torch.cat(torch.autograd.grad(form(linear, x), (x, linear.weight), grad)).norm(dim=-1)

        return passes

    forms = {"oneDNN, a weight's gradient by MKL": job(Linear.forward), "MKL": job(nn.Linear.forward)}
    return Kind(f"linear layer of {rows} x {width} x {4 * width}, fp32, there and back", forms, 1e-4)


def windows(setting: Setting) -> Kind:
    """DiffiT's attention in windows with a bias for each offset, forwards: on a CPU flex has no way back."""
    images, heads, side, window, size = (1, 2, 8, 4, 16) if setting.quick else (8, 4, 32, 4, 32)
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(images, heads, side**2, size, generator=g) for _ in range(3))
    relative = RelativeBias(heads, window)
    table = relative.table.detach().T.unflatten(1, (2 * window - 1, 2 * window - 1)).contiguous()
    bias = relative(TokenGrid(window, window)).detach()

    def within(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i // side // window == j // side // window) & (i % side // window == j % side // window)

    def biased(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        offsets = i // side - j // side, i % side - j % side
        row, column = (n.clamp(1 - window, window - 1) + window - 1 for n in offsets)
        return score + table[h, row, column]

    shape = {"i": side // window, "j": side // window, "r": window, "s": window}

    @torch.no_grad()
    def cut() -> Tensor:
        inside = (rearrange(x, "b h (i r j s) d -> (b i j) h (r s) d", **shape) for x in (q, k, v))
        y = scaled_dot_product_attention(*inside, attn_mask=bias)
        return rearrange(y, "(b i j) h (r s) d -> b h (i r j s) d", **shape)

    mask = create_block_mask(within, None, None, side**2, side**2, device="cpu")
    flex = compiled(lambda: flex_attention(q, k, v, score_mod=biased, block_mask=mask), True)
    forms = {"cut out": cut, "FlexAttention, compiled": torch.no_grad()(flex)}
    return Kind(f"attention of {images} images of {side}x{side} tokens in windows of {window}", forms, 1e-4)

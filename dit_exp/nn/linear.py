"""Linear layers whose products a CPU takes by oneDNN where torch would take them by MKL.

MKL has no code of its own for AMD's processors: there, in float32, oneDNN takes an eighth less time for the
products of a forward pass and for those that lead back to the input. Those that lead to a weight's gradient
are even, and stay torch's. In bfloat16 torch calls oneDNN itself, but writes the bias over the whole answer
first, to which the product is added.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry, register_flop_formula

FEW = 2**20
"""Multiply-adds of which it does not matter who takes them: fewer take less time than to call an operator."""


PACKED = "packed"
"""Where a weight has its other layout."""


class Linear(nn.Linear):
    """torch's, as a CPU takes it faster: (..., in) -> (..., out).

    Compiled in bfloat16 the product is rounded before the bias is added, and not only after.
    """

    def forward(self, input: Tensor) -> Tensor:
        dtype = self.product_dtype(input)
        if dtype == torch.float32 == self.weight.dtype:
            return product(input, self.weight, self.bias)
        if dtype != torch.bfloat16:
            return super().forward(input)
        compiling = torch.compiler.is_compiling()
        if dtype == self.weight.dtype and hasattr(self.weight, PACKED) and not torch.is_grad_enabled():
            take = torch.ops.dit_exp.packed_product if compiling else _packed_product
            return take(input.to(dtype), self.weight, self.bias)
        if compiling and self.bias is not None:  # which a compiler adds where it reads the answer
            answer = input.to(dtype) @ self.weight.to(dtype).t()
            return (answer.float() + self.bias.float()).to(dtype)  # without float() it would be put back
        return super().forward(input)

    def pack(self) -> None:
        """Keeps the weight, which must not change any more, once more as oneDNN lays it out.

        A product without a gradient then lays nothing out and puts its bias in as it goes. On other devices
        than a CPU nothing is done.
        """
        short = self.weight.dtype == torch.bfloat16 and torch.bfloat16 in by_onednn()
        if short and self.weight.device.type == "cpu":
            packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
            setattr(self.weight, PACKED, packed)

    def gelu(self, x: Tensor) -> Tensor | None:
        """GELU of the answer, in its tanh form, in one pass, or None where that would not be the faster way.

        It is where no gradient is wanted, a CPU's GELU taking half as long as the product, and where nothing
        is compiled, since compilers write a fast one themselves. The sum is rounded once and not twice.
        """
        dtype = self.product_dtype(x)
        if dtype is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        return product_gelu(*(y if y is None else y.to(dtype) for y in (x, self.weight, self.bias)))

    def product_dtype(self, x: Tensor) -> torch.dtype | None:
        """The precision in which oneDNN takes the product, or None where torch knows better."""
        if x.device.type != "cpu" or x.numel() * self.out_features < FEW:
            return None
        given = {x.dtype, self.weight.dtype}
        if torch.is_autocast_enabled("cpu"):  # which leaves float64 as it is
            dtype = None if torch.float64 in given else torch.get_autocast_dtype("cpu")
        else:
            dtype = x.dtype if len(given) == 1 else None
        return dtype if dtype in by_onednn() else None


def by_onednn() -> tuple[torch.dtype, ...]:
    """Precisions whose products oneDNN takes on this machine."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return ()
    short = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if short else (torch.float32,)


# The mark of torch.compiler.assume_constant_result, by which torch._dynamo is imported: 1.2 seconds for those
# who compile nothing.
by_onednn.__dict__["_dynamo_marked_constant"] = True


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _packed_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # A weight that has come here as another object is laid out anew.
    return _product(x, getattr(weight, PACKED, weight), bias)


def _product_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, getattr(weight, PACKED, weight), bias, "gelu", [], "tanh")


def _shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


# Operators, which compilers leave as they are. Not by custom_op, by which a call takes 70 microseconds and
# not 34: DiT-S has 65 of them, and a compiled forward pass of 16 images in float32 takes 2 % longer.
_operators = torch.library.Library("dit_exp", "FRAGMENT")
for _take in (_product, _packed_product, _product_gelu):
    _name = _take.__name__.removeprefix("_")
    _operators.define(f"{_name}(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
    _operators.impl(_name, _take, "CPU")
    torch.library.register_fake(f"dit_exp::{_name}", _shape, lib=_operators)

product = torch.ops.dit_exp.product
"""x weight^T + bias, with torch's shapes."""
product_gelu = torch.ops.dit_exp.product_gelu
"""GELU of the same, in its tanh form. It has no backward pass."""


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = ctx.needs_input_grad
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        product(grad, weight.t(), None) if of_x else None,
        rows.t() @ x.reshape(-1, x.shape[-1]) if of_weight else None,
        rows.sum(0) if of_bias else None,
    )


torch.library.register_autograd("dit_exp::product", _back, setup_context=_keep, lib=_operators)


_counted = [torch.ops.dit_exp.product, torch.ops.dit_exp.product_gelu, torch.ops.dit_exp.packed_product]
if torch.backends.mkldnn.is_available() and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    _counted.append(torch.ops.mkldnn._linear_pointwise)  # called as it is where nothing is compiled


@register_flop_formula(_counted)
def _flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight[0]

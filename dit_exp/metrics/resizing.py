"""The resize within torch-fidelity's Inception as two products of matrices, on CPUs."""

from __future__ import annotations

import functools
from types import FunctionType, MethodType

import torch
from torch import Tensor, nn


def resize_by_products(network: nn.Module) -> nn.Module:
    """torch-fidelity's Inception, in place, saying the same to 1e-6 of its features.

    Its own resize picks four whole images by their indices: 4 % of a forward pass on a CPU, of images of 32.
    """
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as own

    def resized(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        if x.device.type != "cpu" or align_corners:
            return own(x, size=size, align_corners=align_corners)
        rows, columns = (weights(*pair).to(x.dtype) for pair in zip(x.shape[2:], size, strict=True))
        return rows @ (x @ columns.t())

    plain = type(network).forward
    within = plain.__globals__ | {own.__name__: resized}
    network.forward = MethodType(FunctionType(plain.__code__, within), network)
    return network


@functools.lru_cache(maxsize=8)
def weights(count: int, size: int) -> Tensor:
    """What `size` pixels of a column are of its `count`, (size, count): bilinear as TensorFlow 1 has it."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as own

    with torch.inference_mode(mode=False):
        return own(torch.eye(count)[None, None], size=(size, count), align_corners=False)[0, 0]

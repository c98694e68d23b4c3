"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193): timm's network with Meta's weights and Meta's way to resize
the position table.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dit_exp.errors import UserError

PATCH = 14


def url(size: str) -> str:
    """Where Meta publishes a size: "small", "base" or "large"."""
    name = f"dinov2_vit{size[0]}14"
    return f"https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"


def load_network(size: str, path: Path, group: str, offline: str, image_size: int = 224) -> nn.Module:
    """timm's network for square images of a side that 14 divides, frozen.

    group, offline  as in `pretrained.weights`. Raises UserError for a file of another network.
    """
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    architecture = f"vit_{size}_patch{PATCH}_dinov2"
    network = timm.create_model(architecture, pretrained=False, img_size=image_size)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["pos_embed"] = resize_positions(state["pos_embed"], image_size // PATCH)
        network.load_state_dict(checkpoint_filter_fn(state, network))  # type: ignore[arg-type]
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} does not hold the weights of {architecture} as Meta publishes them: {error}. "
            f"Pass {group}.weights=PATH of {Path(url(size)).name}, or use {group}={offline}."
        ) from error
    return network.requires_grad_(False).eval()


def resize_positions(table: Tensor, side: int) -> Tensor:
    """(1, 1 + n^2, width) -> (1, 1 + side^2, width): bicubic with Meta's offset of 0.1, no antialiasing."""
    first, patches = table[:, :1], table[:, 1:]
    n = round(patches.shape[1] ** 0.5)
    if n == side:
        return table
    grid = patches.reshape(1, n, n, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / n
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)

"""DINOv2 as a teacher: the patch tokens of Meta's network, from a file of its weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dit_exp.pretrained.dinov2 import PATCH, load_network, url
from dit_exp.pretrained.weights import located, sha256

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels in [0, 1], by which Meta normalises."""

DIMS = {"small": 384, "base": 768, "large": 1024}


class DinoV2Teacher:
    """Patch tokens after the last norm as a map: (B, 3, H, W) in [-1, 1] -> (B, dims, s / 14, s / 14).

    size        of the network
    weights     dinov2_vitb14_pretrain.pth for the base size; None downloads it to torch's hub cache once
    image_size  s, which images are resized to by a bicubic kernel; the position table follows
    No checksum of these files is published: checkpoints state the hash that was used.
    Source: Oquab et al. 2023, arXiv:2304.07193. Raises UserError where the file cannot be had or does not fit
    the network, ValueError for a side that 14 does not divide.
    """

    def __init__(
        self,
        size: Literal["small", "base", "large"] = "base",
        weights: str | None = None,
        image_size: int = 224,
    ) -> None:
        if image_size < PATCH or image_size % PATCH:
            raise ValueError(f"teacher.image_size={image_size} must be a multiple of {PATCH}, such as 224.")
        self.name, self.dims, self.image_size = f"dinov2-vit-{size[0]}-14", DIMS[size], image_size
        path = located(weights, url(size), "teacher", "efficientnet_lite0")
        self.sha256 = sha256(path)
        self.network = load_network(size, path, "teacher", "efficientnet_lite0", image_size)

    def __call__(self, image: Tensor) -> Tensor:
        channels = zip(image.unbind(1), MEAN, DEVIATION, strict=True)
        x = torch.stack([((channel + 1) / 2 - m) / d for channel, m, d in channels], dim=1)
        side = self.image_size // PATCH
        tokens = self.network.forward_features(  # type: ignore[operator]
            interpolate(x, (self.image_size, self.image_size), mode="bicubic")
        )
        return tokens[:, -side * side :].mT.unflatten(2, (side, side))

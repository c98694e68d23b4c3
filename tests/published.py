"""Networks as others publish them, drawn at random and small."""

from __future__ import annotations

from pathlib import Path

import torch


def dino(path: Path) -> Path:
    """A file as Meta publishes DINOv2's weights: the small network's."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
    torch.save(network.state_dict() | {"mask_token": torch.zeros(1, 384)}, path)
    return path


def vae(folder: Path) -> Path:
    """A folder as diffusers saves an autoencoder, of one halving."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    ).save_pretrained(folder)
    return folder

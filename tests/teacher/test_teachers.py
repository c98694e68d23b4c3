"""Teachers: frozen networks as maps of features."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from published import dino

from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.metrics.efficientnet import EfficientNetLite0
from dit_exp.pretrained.efficientnet import SHA256
from dit_exp.teacher.dinov2 import DinoV2Teacher
from dit_exp.teacher.efficientnet_lite0 import EfficientNetTeacher


def picture(side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)


def test_efficientnet_s_map_pools_to_the_features_that_scores_compare():
    teacher, image = EfficientNetTeacher(), picture(32)
    with torch.no_grad():
        found = teacher(to_model_range(image))
        pooled = teacher.network.forward_head(found, pre_logits=True)
        expected = EfficientNetLite0().network(image)[0]
    assert found.shape == (2, teacher.dims, 7, 7)
    assert expected.std() > 0.1
    torch.testing.assert_close(pooled, expected, atol=1e-3, rtol=1e-3)
    assert teacher.sha256 == SHA256
    assert not teacher.network.training
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_dinov2_s_map_is_its_patch_tokens_row_by_row(tmp_path: Path):
    path = dino(tmp_path / "small.pth")
    teacher, image = DinoV2Teacher("small", str(path), image_size=56), picture(56)  # nothing is resized
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        found, tokens = teacher(to_model_range(image)), teacher.network.forward_features(normal)
    assert found.shape == (2, 384, 4, 4) == (2, teacher.dims, 4, 4)
    assert tokens.shape == (2, 17, 384)
    torch.testing.assert_close(found[:, :, 1, 2], tokens[:, 1 + 4 + 2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, :, 3, 0], tokens[:, 1 + 12], atol=1e-4, rtol=1e-4)
    assert teacher.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not teacher.network.training
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_what_cannot_be_had_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"teacher.weights=no.pth is not a file.*dinov2_vitb14_pretrain.pth"):
        DinoV2Teacher(weights="no.pth")
    with pytest.raises(ValueError, match=r"teacher.image_size=100 must be a multiple of 14"):
        DinoV2Teacher(image_size=100)
    with pytest.raises(ValueError, match=r"teacher.image_size=16 must be a multiple of 32"):
        EfficientNetTeacher(image_size=16)

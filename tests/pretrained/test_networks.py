"""Networks that others trained: each tensor lands where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dit_exp.errors import UserError
from dit_exp.pretrained import dinov2, efficientnet


def test_every_packaged_tensor_lands_once_in_timms_network() -> None:
    state = torch.load(efficientnet.packaged_weights(), weights_only=True)
    own = efficientnet.load_network(efficientnet.packaged_weights()).state_dict()
    assert len(state) == len(own) == 296
    for (theirs, tensor), (ours, loaded) in zip(state.items(), own.items(), strict=True):
        assert (
            theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        )  # weight to weight, running_var to running_var
        assert torch.equal(tensor, loaded)


def test_dinov2_positions_follow_metas_offset() -> None:
    ramp = torch.arange(37.0).view(1, 1, 37, 1).expand(1, 37, 37, 2).reshape(1, 37 * 37, 2)
    table = torch.cat([torch.full((1, 1, 2), 9.0), ramp], dim=1)
    resized = dinov2.resize_positions(table, 16)
    assert torch.equal(resized[:, 0], table[:, 0])
    columns = resized[0, 1:, 0].view(16, 16)
    inner = torch.arange(2, 14)
    # cell centres; torch's bicubic kernel bends a ramp by up to 0.05, a scale of 37 / 16 moves it by 0.19
    torch.testing.assert_close(columns[5, 2:14], (inner + 0.5) * 37 / 16.1 - 0.5, atol=0.06, rtol=0)
    assert dinov2.resize_positions(table, 37) is table


def test_dinov2_refuses_another_file(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(
        UserError,
        match=r"weights of vit_small_patch14_dinov2.*teacher.weights=PATH of dinov2_vits14_pretrain.pth",
    ):
        dinov2.load_network("small", tmp_path / "other.pth", "teacher", "efficientnet_lite0")

"""Pretrained autoencoders from a folder, and what is said of one that is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from test_autoencoders import pictures

from dit_exp.autoencoder.sd_vae import CONFIG, WEIGHTS, SDVae
from dit_exp.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small AutoencoderKL as diffusers saves it."""
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        scaling_factor=0.5,
        shift_factor=0.25,
    ).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@torch.no_grad()
def test_a_local_folder_gives_diffusers_latents_at_the_published_scale(folder: Path):
    ours = SDVae(str(folder)).eval()
    theirs = AutoencoderKL.from_pretrained(folder).eval()
    assert ours.latent_shape((3, 16, 24)) == (4, 4, 6)
    posterior = theirs.encode(pictures()).latent_dist
    torch.manual_seed(1)
    noise = torch.randn(4, 4, 4, 4)
    torch.manual_seed(1)
    expected = (posterior.mean + posterior.std * noise - 0.25) * 0.5
    torch.testing.assert_close(ours.encode(pictures()), expected)
    decoded = theirs.decode(expected / 0.5 + 0.25).sample
    torch.testing.assert_close(ours.decode(expected), decoded, rtol=1e-4, atol=1e-5)
    assert ours.stochastic
    assert ours.identity() == SDVae(str(folder)).identity()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_missing_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"source=.*is not a whole autoencoder: {name} is missing"):
        SDVae(str(folder))


def test_weights_that_are_missing_or_cut_short_are_refused(folder: Path):
    weights = load_file(folder / WEIGHTS)
    del weights["decoder.conv_out.bias"]
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights and the network differ, decoder.conv_out.bias first"):
        SDVae(str(folder))
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"is damaged or of another kind"):
        SDVae(str(folder))


def test_what_is_no_folder_and_cannot_be_fetched_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"is no folder, and could not be fetched.*hub name where a hub"):
        SDVae(str(tmp_path / "nowhere"))

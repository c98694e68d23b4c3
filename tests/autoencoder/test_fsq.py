"""Rounding to levels: how many codes, which values, and a gradient that passes."""

from __future__ import annotations

import torch
from test_autoencoders import TINY, pictures, tiny
from vector_quantize_pytorch import FSQ as Rounding

from dit_exp.autoencoder.fsq import FSQ


def test_levels_of_8_8_8_16_are_8192_codes_and_every_one_is_reached():
    autoencoder = FSQ(**TINY)
    assert autoencoder.codebook_size == 8192
    axes = [torch.linspace(-0.999, 0.999, 2 * level).atanh() for level in (8, 8, 8, 16)]
    raw = torch.cartesian_prod(*axes)
    _, penalty, codes = autoencoder.bottleneck(raw.T.reshape(1, 4, -1, 256))
    assert sorted(codes.unique().tolist()) == list(range(8192))
    assert torch.equal(penalty, torch.zeros(1))


@torch.no_grad()
def test_values_are_the_library_s_and_levels_apart():
    autoencoder = tiny(FSQ)
    raw = 3 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    z = autoencoder.quantized(raw)
    expected, _ = Rounding([8, 8, 8, 16])(raw)
    assert torch.equal(z, expected)
    half = torch.tensor([4.0, 4, 4, 8])[:, None, None]
    assert torch.equal(z * half, (z * half).round())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(autoencoder.quantized(raw), z)


def test_the_encoder_learns_through_the_rounding():
    autoencoder = tiny(FSQ)
    autoencoder(pictures()).image.square().mean().backward()
    assert autoencoder.encoder.conv_in.weight.grad.abs().sum() > 0

"""Embeddings and patches against explicit arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.nn.embed import sincos_2d, sinusoid
from dit_exp.nn.patch import patchify, unpatchify


def test_sinusoid_is_cosines_then_sines():
    wave = sinusoid(torch.tensor([3.0]), 256)[0]
    for k in (0, 1, 64, 127):
        angle = 3.0 * math.exp(-math.log(10_000) * k / 128)
        assert wave[k] == pytest.approx(math.cos(angle), abs=1e-6)
        assert wave[128 + k] == pytest.approx(math.sin(angle), abs=1e-6)


def test_a_thousand_times_have_a_thousand_embeddings_even_under_bfloat16():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        waves = sinusoid(torch.arange(1000.0), 256)
    assert len(waves.unique(dim=0)) == 1000


def test_position_table_equals_diffusers():
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    expected = get_2d_sincos_pos_embed(48, 6, base_size=6, interpolation_scale=1, output_type="pt")
    torch.testing.assert_close(sincos_2d(6, 6, 48)[0], expected.float())


def test_the_first_half_of_a_position_tells_the_column():
    table = sincos_2d(2, 3, 8).reshape(2, 3, 8)
    assert torch.equal(table[0, 1, :4], table[1, 1, :4])
    assert torch.equal(table[1, 0, 4:], table[1, 2, 4:])
    assert not torch.equal(table[0, 0, :4], table[0, 1, :4])


def test_patches_are_channel_first_in_and_channel_last_out():
    image = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    conv = torch.nn.Unfold(2, stride=2)(image).transpose(1, 2)
    assert torch.equal(patchify(image, 2), conv)
    assert patchify(image, 2)[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]
    channel_last = conv.reshape(1, 6, 2, 4).transpose(2, 3).flatten(2)
    assert torch.equal(unpatchify(channel_last, 2, 4, 6), image)

"""The codebook: nearest codes, who learns from what, and codes that died."""

from __future__ import annotations

import pytest
import torch
from test_autoencoders import TINY, codebook, pictures, tiny
from torch.nn import functional as F
from vector_quantize_pytorch import VectorQuantize

from dit_exp.autoencoder.vq import VQ

CODES = 16


def vq(**keys) -> VQ:
    return codebook(tiny(VQ, codebook_size=CODES, **keys))


def nearest(raw: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The numbers of the nearest codes, by every distance in float64."""
    places = raw.double().movedim(1, -1)[..., None, :]
    return (places - codes.double()).square().sum(-1).argmin(-1)


@torch.no_grad()
def test_every_place_becomes_its_nearest_code_and_decode_quantises_once():
    autoencoder = vq()
    codes = autoencoder.quantizer.codebook
    raw = autoencoder.statistics(pictures())
    expected = codes[nearest(raw, codes)].movedim(-1, 1)
    z = autoencoder.quantized(raw)
    torch.testing.assert_close(z, expected, rtol=0, atol=0)
    assert torch.equal(autoencoder.quantized(z), z)
    image = autoencoder.decoder(autoencoder.post_quant_conv(expected))
    torch.testing.assert_close(autoencoder.decode(autoencoder.latent(raw)), image, rtol=1e-4, atol=1e-5)


def test_training_quantises_as_the_library_does_and_moves_the_codes_as_it_does():
    autoencoder = vq().train()
    theirs = VectorQuantize(4, CODES, decay=0.99, accept_image_fmap=True, rotation_trick=False).train()
    theirs.load_state_dict(autoencoder.quantizer.state_dict())
    raw = autoencoder.raw(pictures())
    z, penalty, codes = autoencoder.bottleneck(raw)
    expected, indices, _ = theirs(raw)
    assert torch.equal(z, expected)
    assert torch.equal(codes, indices)
    assert torch.equal(autoencoder.quantizer.codebook, theirs.codebook)
    mean = (raw - expected).square().flatten(1).mean(1)
    torch.testing.assert_close(penalty, 0.2 * mean)


def test_the_encoder_gets_the_commitment_alone_and_passes_the_image_s_gradient_unchanged():
    autoencoder = vq().train()
    raw = autoencoder.raw(pictures()).detach().requires_grad_()
    z, penalty, _ = autoencoder.bottleneck(raw)
    [through] = torch.autograd.grad((z * 3.0).sum(), raw, retain_graph=True)
    assert torch.equal(through, torch.full_like(raw, 3.0))
    [committed] = torch.autograd.grad(penalty.sum(), raw)
    torch.testing.assert_close(committed, 0.2 * 2 * (raw - z).detach() / raw[0].numel())
    assert not any(parameter.requires_grad for parameter in autoencoder.quantizer.parameters())


@torch.no_grad()
def test_the_codes_move_to_the_mean_of_their_places_and_nowhere_else():
    autoencoder = vq(decay=0.5).train()
    raw = autoencoder.statistics(pictures())
    book = autoencoder.quantizer._codebook
    sizes, sums, codes = book.cluster_size[0].clone(), book.embed_avg[0].clone(), nearest(raw, book.embed[0])
    autoencoder.bottleneck(raw)
    hits = F.one_hot(codes.flatten(), CODES).float()
    total = 0.5 * sums + 0.5 * hits.T @ raw.movedim(1, -1).flatten(0, 2)
    count = 0.5 * sizes + 0.5 * hits.sum(0)
    expected = total / ((count + 1e-5) / (count.sum() + CODES * 1e-5) * count.sum())[:, None]
    torch.testing.assert_close(book.embed[0], expected)


@torch.no_grad()
def test_codes_are_the_nearest_under_bfloat16_too():
    autoencoder = vq()
    generator = torch.Generator().manual_seed(4)
    codes = torch.randn(CODES, 4, generator=generator)
    raw = torch.randn(16, 4, 16, 16, generator=generator)
    autoencoder.quantizer.codebook = codes
    exact = nearest(raw, codes)
    # Some places are so near to two codes that bfloat16 takes the wrong one.
    assert not torch.equal(nearest(raw.bfloat16(), codes.bfloat16()), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(autoencoder._quantize(raw)[1], exact)
        assert torch.equal(autoencoder.quantized(raw), codes[exact].movedim(-1, 1))
        z, _, found = autoencoder.train().bottleneck(raw)
    assert torch.equal(found, exact)
    assert z.dtype == torch.float32


@torch.no_grad()
def test_dead_codes_are_given_places_of_latents_and_the_living_keep_theirs():
    autoencoder = vq().train()
    before = autoencoder.quantizer.codebook.clone()
    dead = torch.zeros(CODES, dtype=torch.bool)
    dead[[1, 5, 6]] = True
    vectors = torch.arange(40.0).reshape(10, 4) + 100
    torch.manual_seed(0)
    assert autoencoder.restart(vectors, dead) == 3
    after = autoencoder.quantizer.codebook
    assert torch.equal(after[~dead], before[~dead])
    assert all(any(torch.equal(code, vector) for vector in vectors) for code in after[dead])
    assert len(after[dead].unique(dim=0)) == 3
    # They stay there until latents come: one step without any moves them by nothing.
    raw = autoencoder.statistics(pictures(1))
    autoencoder.bottleneck(raw)
    torch.testing.assert_close(autoencoder.quantizer.codebook[dead], after[dead], rtol=1e-3, atol=0)


@torch.no_grad()
def test_what_is_restarted_is_counted_where_there_are_fewer_places_than_dead_codes():
    autoencoder = vq().train()
    vectors, dead = torch.arange(8.0).reshape(2, 4) + 100, torch.arange(CODES) < 5
    assert autoencoder.restart(vectors, dead) == 2  # one process defers the others
    book = autoencoder.quantizer._codebook
    book.replace_sample_fn = lambda samples, count: samples[:, torch.arange(count) % 2]  # several do not
    assert autoencoder.restart(vectors + 8, dead) == 5


def test_a_rotation_carries_the_gradient_where_it_is_asked_for():
    raw = vq().raw(pictures()).detach().requires_grad_()
    z, _, _ = vq(rotation=True).train().bottleneck(raw)
    [through] = torch.autograd.grad(z.sum(), raw)
    assert not torch.allclose(through, torch.ones_like(raw))


def test_a_codebook_of_one_is_refused():
    with pytest.raises(ValueError, match=r"autoencoder.codebook_size=1 must be at least 2"):
        VQ(**TINY, codebook_size=1)

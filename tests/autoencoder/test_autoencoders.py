"""What all autoencoders answer: normalised latents, their size, a name; and what a checkpoint brings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dit_exp import checkpoint
from dit_exp.autoencoder.fsq import FSQ
from dit_exp.autoencoder.identity import Identity
from dit_exp.autoencoder.kl import KL
from dit_exp.autoencoder.vq import VQ
from dit_exp.errors import UserError

TINY = {"widths": (8, 16, 16), "layers": 1, "groups": 4}


def tiny(kind: type, **keys):
    torch.manual_seed(0)
    return kind(**TINY, **keys)


def codebook(autoencoder: VQ) -> VQ:
    """The same one with codes among its latents, as k-means of a first batch would place them."""
    autoencoder.train()
    torch.manual_seed(0)
    with torch.no_grad():
        autoencoder(pictures(8))
    return autoencoder.eval()


def pictures(count: int = 4, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


KINDS = {"vq": lambda: codebook(tiny(VQ, codebook_size=16)), "fsq": lambda: tiny(FSQ), "kl": lambda: tiny(KL)}


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_measured_latents_have_mean_0_and_variance_1_in_each_channel(name: str):
    autoencoder = KINDS[name]().eval()
    assert autoencoder.measured == 0
    images = pictures(512)
    autoencoder.measure(images.split(100))
    assert autoencoder.measured == 512
    torch.manual_seed(3)
    latent = autoencoder.encode(images)
    assert latent.shape == (512, *autoencoder.latent_shape((3, 16, 16))) == (512, 4, 4, 4)
    assert float(latent.mean((0, 2, 3)).abs().max()) < 0.05
    assert float((latent.std((0, 2, 3)) - 1).abs().max()) < 0.05


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_encode_is_the_latent_of_the_statistics(name: str):
    autoencoder = KINDS[name]().eval()
    autoencoder.measure([pictures()])
    images = pictures()
    statistics = autoencoder.statistics(images)
    torch.manual_seed(5)
    noise = torch.randn(4, 4, 4, 4) if autoencoder.stochastic else None
    assert statistics.shape[1] == (8 if autoencoder.stochastic else 4)
    torch.manual_seed(5)
    assert torch.equal(autoencoder.encode(images), autoencoder.latent(statistics, noise))


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_scale_changes_latents_and_not_what_they_decode_to(name: str):
    autoencoder = KINDS[name]().eval()
    images = pictures()
    before = autoencoder.decode(autoencoder.latent(autoencoder.statistics(images)))
    latent = autoencoder.latent(autoencoder.statistics(images))
    autoencoder.measure([images])
    after = autoencoder.decode(autoencoder.latent(autoencoder.statistics(images)))
    assert not torch.allclose(autoencoder.latent(autoencoder.statistics(images)), latent, atol=1e-2)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_spread_of_a_stochastic_one_counts_into_its_scale():
    autoencoder = tiny(KL).eval()
    autoencoder.quant_conv.weight.zero_()
    autoencoder.quant_conv.bias.copy_(torch.tensor([1.0, 2, 3, 4, *[2 * torch.tensor(0.5).log()] * 4]))
    autoencoder.measure(pictures(256).split(64))
    assert autoencoder.mean.flatten().tolist() == pytest.approx([1, 2, 3, 4], abs=0.05)
    assert autoencoder.std.flatten().tolist() == pytest.approx([0.5] * 4, abs=0.02)
    statistics = autoencoder.statistics(pictures(1))
    assert autoencoder.latent(statistics, None).abs().max() < 0.1  # the mean itself, without noise


def test_an_identity_changes_with_every_weight_and_setting_and_with_nothing_else():
    first = tiny(FSQ)
    assert first.identity() == tiny(FSQ).identity()
    assert tiny(FSQ, levels=(8, 8, 16, 8)).identity() != first.identity()
    name = first.identity()
    with torch.no_grad():
        first.decoder.conv_out.bias[1] += 1e-6
    assert first.identity() != name
    again = first.identity()
    first.std[2] = 1.5
    assert first.identity() != again
    assert len(name) == 16


def test_sides_that_cannot_be_halved_are_refused():
    autoencoder = tiny(FSQ)
    assert autoencoder.latent_shape((3, 20, 32)) == (4, 5, 8)
    with pytest.raises(ValueError, match=r"sides that 4 divides, and the data's are 89x109 of 3 channels"):
        autoencoder.latent_shape((3, 89, 109))
    with pytest.raises(ValueError, match=r"16x16 of 1 channels"):
        autoencoder.latent_shape((1, 16, 16))


def test_the_default_sizes_make_32x32x4_of_128x128():
    with torch.device("meta"):
        for kind in (VQ, KL):
            assert kind().latent_shape((3, 128, 128)) == (4, 32, 32)


@torch.no_grad()
def test_identity_is_no_autoencoder_at_all():
    images, none = pictures(), Identity()
    assert torch.equal(none.decode(none.latent(none.statistics(images), None)), images)
    assert none.latent_shape((3, 7, 5)) == (3, 7, 5)
    assert not none.stochastic
    with pytest.raises(ValueError, match="autoencoder=identity has no weights"):
        Identity(checkpoint="x")


def left(autoencoder, folder: Path) -> Path:
    """What a run of task=autoencoder leaves."""
    state = {"config": {"autoencoder": {"checkpoint": None}}, "step": 1, "model": autoencoder.state_dict()}
    checkpoint.save(state, folder / checkpoint.AUTOENCODER, keep=1)
    return folder


@pytest.mark.parametrize("name", ["vq", "fsq", "kl"])
@torch.no_grad()
def test_a_checkpoint_brings_weights_codes_and_scale(name: str, tmp_path: Path):
    trained = KINDS[name]().eval()
    trained.measure([pictures()])
    where = left(trained, tmp_path)
    keys = {"codebook_size": 16} if name == "vq" else {}
    for path in (where, where / "autoencoder.pt"):
        torch.manual_seed(9)
        loaded = type(trained)(**TINY, **keys, checkpoint=str(path)).eval()
        assert loaded.identity() == trained.identity()
        statistics = loaded.statistics(pictures())
        assert torch.equal(loaded.latent(statistics), trained.latent(trained.statistics(pictures())))
        latent = loaded.latent(statistics)
        assert torch.equal(loaded.decode(latent), trained.decode(latent))


def test_what_is_no_trained_autoencoder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"autoencoder.checkpoint=.*there is no file .*come to its end"):
        tiny(FSQ, checkpoint=str(tmp_path))
    state = {"config": {"autoencoder": {"checkpoint": None}}, "step": 3, "model": {}}
    step = checkpoint.path_of(tmp_path, 3)
    checkpoint.save(state, step, keep=1)
    with pytest.raises(UserError, match=r"what stands in checkpoints/ has no measured scale"):
        tiny(FSQ, checkpoint=str(step))
    (tmp_path / "autoencoder.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match="is not a checkpoint of this program"):
        tiny(FSQ, checkpoint=str(tmp_path))
    left(tiny(FSQ), tmp_path)
    with pytest.raises(UserError, match="is of another architecture"):
        tiny(KL, checkpoint=str(tmp_path))
    whole = (tmp_path / "autoencoder.pt").read_bytes()
    (tmp_path / "autoencoder.pt").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="damaged: its SHA-256"):
        tiny(FSQ, checkpoint=str(tmp_path))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"widths": (8, 12), "groups": 8}, r"autoencoder.widths=\[8, 12\] must be multiples of .*groups=8"),
        ({"layers": 0}, r"autoencoder.layers=0 at least 1"),
        ({"levels": (8, 2)}, r"autoencoder.levels=\[8, 2\] must be 3 or more"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(keys: dict, text: str):
    with pytest.raises(ValueError, match=text):
        FSQ(**(TINY | keys))

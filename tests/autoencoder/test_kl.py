"""The variational autoencoder: parity with diffusers' network, and the exact divergence."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from test_autoencoders import TINY, pictures, tiny

from dit_exp.autoencoder.kl import KL
from dit_exp.nn.count import count_parameters

SCALE = {"mean", "std", "measured"}


def theirs(widths, layers: int, groups: int, attention: bool) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        norm_num_groups=groups,
        mid_block_add_attention=attention,
    )


@pytest.mark.parametrize("attention", [False, True])
@torch.no_grad()
def test_with_the_same_weights_it_is_diffusers_network(attention: bool):
    ours = tiny(KL, attention=attention).eval()
    other = theirs(TINY["widths"], TINY["layers"], TINY["groups"], attention).eval()
    other.load_state_dict({k: v for k, v in ours.state_dict().items() if k not in SCALE})
    posterior = other.encode(pictures()).latent_dist
    mean, std = ours.statistics(pictures()).chunk(2, dim=1)
    assert torch.equal(mean, posterior.mean)
    torch.testing.assert_close(std, posterior.std)
    raw = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.decode(raw), other.decode(raw).sample)


def test_at_stable_diffusion_s_sizes_it_has_the_published_83_65_million_parameters():
    with torch.device("meta"):
        ours = KL(widths=(128, 256, 512, 512), layers=2, attention=True)
        other = theirs((128, 256, 512, 512), 2, 32, True)
    assert count_parameters(ours) == count_parameters(other) == 83_653_863
    assert ours.latent_shape((3, 256, 256)) == (4, 32, 32)


def test_the_penalty_is_the_exact_divergence_in_nats():
    autoencoder = tiny(KL, penalty=0.5)
    generator = torch.Generator().manual_seed(2)
    raw = torch.randn(3, 8, 4, 4, generator=generator)
    mean, log_variance = raw.double().chunk(2, dim=1)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()),
        torch.distributions.Normal(0.0, 1.0),
    )
    _, penalty, codes = autoencoder.bottleneck(raw)
    torch.testing.assert_close(penalty.double(), 0.5 * exact.flatten(1).sum(1), rtol=1e-5, atol=0)
    assert codes is None


@torch.no_grad()
def test_latents_in_training_are_drawn_from_the_distribution():
    raw = torch.cat([torch.full((1, 4, 64, 64), 2.0), torch.full((1, 4, 64, 64), -2.0)], dim=1)
    torch.manual_seed(0)
    z, _, _ = tiny(KL).bottleneck(raw)
    assert float(z.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(z.std()) == pytest.approx(torch.tensor(-1.0).exp().item(), abs=0.02)

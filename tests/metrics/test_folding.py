"""Folding batch norms changes what a network costs, not what it says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dit_exp.metrics.efficientnet import load_network, packaged_weights
from dit_exp.metrics.folding import fold_batch_norms


def inception() -> nn.Module:
    """torch-fidelity's network with random weights, and batch norms that have seen random data."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(module.torch, "load", lambda *args, **kwargs: {})
        torch.manual_seed(0)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "none")
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 2)
            part.bias.data.normal_(std=0.1)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


@torch.inference_mode()
def test_inceptions_features_stay_without_its_94_batch_norms():
    plain, images = inception(), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    folded = fold_batch_norms(copy.deepcopy(plain)).to(memory_format=torch.channels_last)
    assert (norms(plain), norms(folded)) == (94, 0)
    expected, [said] = plain(images)[0], folded(images)
    assert float((said - expected).norm() / expected.norm()) < 1e-5
    assert float(expected.std()) > 1e-3


@torch.inference_mode()
def test_efficientnets_features_stay_and_so_do_its_activations():
    plain, images = load_network(packaged_weights()), torch.randn(2, 3, 64, 64)
    folded = fold_batch_norms(copy.deepcopy(plain))
    assert (norms(plain), norms(folded)) == (49, 0)
    torch.testing.assert_close(folded(images), plain(images), rtol=1e-4, atol=1e-5)
    kept = [sum(isinstance(part, nn.ReLU6) for part in net.modules()) for net in (plain, folded)]
    assert kept[0] == kept[1] > 0


def test_a_batch_norm_apart_from_a_convolution_stays():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert norms(fold_batch_norms(network)) == 1

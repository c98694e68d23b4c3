"""Folding batch norms, and a resize by products, change what a network costs and not what it says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dit_exp.metrics.efficientnet import load_network, packaged_weights
from dit_exp.metrics.folding import fold_batch_norms
from dit_exp.metrics.resizing import resize_by_products, weights


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
    """In float64, since single logits near 0 err in float32 by more than the bound, folded or not."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = load_network(packaged_weights()).double()
    folded = fold_batch_norms(copy.deepcopy(plain))
    assert (norms(plain), norms(folded)) == (49, 0)
    torch.testing.assert_close(folded(images), plain(images), rtol=1e-10, atol=1e-10)
    kept = [sum(isinstance(part, nn.ReLU6) for part in net.modules()) for net in (plain, folded)]
    assert kept[0] == kept[1] > 0


def test_a_batch_norm_apart_from_a_convolution_stays():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert norms(fold_batch_norms(network)) == 1


@torch.inference_mode()
def test_inceptions_features_stay_where_its_resize_is_of_products(monkeypatch: pytest.MonkeyPatch):
    from torch_fidelity import feature_extractor_inceptionv3 as module

    plain, images = inception(), torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8)
    expected = plain(images)[0]
    fast = resize_by_products(copy.deepcopy(plain))
    monkeypatch.delattr(module, "interpolate_bilinear_2d_like_tensorflow1x")
    [said] = fast(images)
    assert float((said - expected).norm() / expected.norm()) < 1e-5
    with pytest.raises(NameError):
        plain(images)


@pytest.mark.parametrize(("count", "size"), [(32, 299), (299, 299), (512, 299), (1, 299)])
def test_a_resize_by_products_is_tensorflows(count: int, size: int):
    # Pixel i lies at i count / size, between two pixels, of which the last is its own neighbour.
    line = torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    places = torch.arange(size, dtype=torch.float64) * count / size
    low = places.floor().long()
    part = places - low
    expected = (1 - part) * line[low] + part * line[(low + 1).clamp(max=count - 1)]
    torch.testing.assert_close(weights(count, size).double() @ line, expected, rtol=0, atol=1e-4)

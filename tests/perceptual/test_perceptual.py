"""Perceptual losses: LPIPS is the published one, the offline one a distance; gradients reach one side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dit_exp.errors import UserError
from dit_exp.perceptual.efficientnet import EfficientNetFeatures
from dit_exp.perceptual.lpips import LPIPS
from dit_exp.perceptual.none import NoPerceptual


def pictures(seed: int, side: int = 64) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Random weights in the layout of the two published files."""
    from torchvision.models import vgg16

    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    torch.save(vgg16(weights=None).state_dict(), folder / "vgg16.pth")
    widths = (64, 128, 256, 512, 512)
    torch.save(
        {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(widths)}, folder / "lin.pth"
    )
    return str(folder / "vgg16.pth"), str(folder / "lin.pth")


def test_lpips_is_that_of_torch_fidelity_with_the_same_weights(files: tuple[str, str], monkeypatch):
    from torch_fidelity import sample_similarity_lpips as theirs
    from torchvision.models import vgg16

    vgg, linear = files

    def loaded():
        network = vgg16(weights=None)
        network.load_state_dict(torch.load(vgg, weights_only=True))
        return network

    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", loaded)
    monkeypatch.setattr(
        theirs, "load_state_dict_from_url", lambda *_, **__: torch.load(linear, weights_only=True)
    )
    reference = theirs.SampleSimilarityLPIPS("lpips")
    image, other = pictures(0), pictures(1)
    expected = reference((image + 1) * 127.5, (other + 1) * 127.5)
    ours = LPIPS(vgg, linear, weight=2.0)
    torch.testing.assert_close(ours(image, other), 2 * expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours(image, image), torch.zeros(2), rtol=0, atol=1e-7)


def test_lpips_says_which_file_is_wrong(files: tuple[str, str], tmp_path: Path):
    vgg, linear = files
    with pytest.raises(
        UserError, match=r"perceptual.vgg=.*nowhere.pth cannot be read .*perceptual=efficientnet"
    ):
        LPIPS(str(tmp_path / "nowhere.pth"), linear)
    with pytest.raises(UserError, match=r"perceptual.linear=.*holds other weights than LPIPS on VGG16 needs"):
        LPIPS(vgg, vgg)


def test_the_offline_loss_is_a_distance_that_grows_with_the_damage():
    seeing = EfficientNetFeatures(weight=3.0)
    image = torch.nn.functional.interpolate(pictures(0, 8), 64, mode="bicubic").clamp(-1, 1)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(seeing(image, image), torch.zeros(2))
    near, far = seeing(image, image + 0.05 * noise), seeing(image, image + 0.5 * noise)
    assert (near > 0).all()
    assert (near < far).all()
    torch.testing.assert_close(EfficientNetFeatures(weight=1.0)(image, image + 0.5 * noise) * 3, far)


def test_the_offline_network_sees_what_the_score_s_network_sees():
    from dit_exp.pretrained.efficientnet import load_network, packaged_weights

    image = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    network = load_network(packaged_weights())
    expected = network.forward_intermediates((image - 127) / 128, intermediates_only=True)
    ours = EfficientNetFeatures().features(image / 127.5 - 1)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_the_gradient_flows_to_the_reconstruction_and_to_no_weight():
    seeing = EfficientNetFeatures()
    image, made = pictures(0).requires_grad_(), pictures(1).requires_grad_()
    seeing(image, made).sum().backward()
    assert image.grad is None
    assert made.grad.abs().sum() > 0
    assert made.grad.isfinite().all()
    assert all(weight.grad is None for weight in seeing.network.parameters())


def test_none_sees_no_difference():
    assert torch.equal(NoPerceptual()(pictures(0), pictures(1)), torch.zeros(2))

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from published import dino
from scored import Images
from torch import Tensor
from torch.utils.data import Dataset

from dit_exp.errors import UserError
from dit_exp.images import to_model_range, to_uint8
from dit_exp.metrics.dinov2 import DinoV2, fidelity_extractor
from dit_exp.metrics.efficientnet import EfficientNetLite0
from dit_exp.metrics.features import FeatureScores
from dit_exp.metrics.inception import SHA256, Inception
from dit_exp.pretrained.dinov2 import load_network

ALL = ["fd", "is", "kd", "precision", "recall"]


@pytest.fixture(scope="session")
def lite0() -> EfficientNetLite0:
    return EfficientNetLite0()


def photograph(path: Path) -> Tensor:
    """The centre square as uint8 (1, 3, H, H)."""
    import numpy as np
    from PIL import Image

    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return torch.from_numpy(np.array(image.crop((left, top, left + side, top + side)))).permute(2, 0, 1)[None]


def test_the_network_names_photographs(lite0: EfficientNetLite0) -> None:
    """Photographs that come with installed packages: an officer, a Chinese palace, a dahlia."""
    import matplotlib
    import sklearn.datasets

    pictures = Path(sklearn.datasets.__file__).parent / "images"
    officer = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    with torch.inference_mode():
        for path, answer in ((officer, 652), (pictures / "china.jpg", 698), (pictures / "flower.jpg", 985)):
            assert lite0.network(photograph(path))[1].argmax().item() == answer, path.name


@pytest.mark.system
def test_the_commonest_answer_to_a_cifar_class_is_sensible(
    lite0: EfficientNetLite0, cifar: tuple[Tensor, Tensor]
) -> None:
    """Airliner, moving van, speedboat and moving van again; at 32 pixels most single answers are wrong."""
    images, labels = cifar
    with torch.inference_mode():
        for label, answer in ((0, 404), (1, 675), (8, 814), (9, 675)):
            pieces = images[labels == label].split(16)
            top = torch.cat([lite0.network(piece)[1].argmax(1) for piece in pieces])
            assert top.mode().values.item() == answer, f"CIFAR class {label}: {top.tolist()}"


class Fixed(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def test_scores_equal_torch_fidelitys_own(
    lite0: EfficientNetLite0, cifar: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    import torch_fidelity

    generated, reference = cifar[0][:40], cifar[0][40:90]
    metric = FeatureScores(lambda weights: lite0, ALL, cache=str(tmp_path), device="cpu")
    metric.prepare(Images(reference))
    metric.update(generated)
    values, protocol = metric.compute()
    theirs = torch_fidelity.calculate_metrics(
        input1=Fixed(generated),
        input2=Fixed(reference),
        feature_extractor="efficientnet-lite0",
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=protocol["kd_subset_size"],
        batch_size=64,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    # the kernel distance is a small difference of float32 means near 2, hence its absolute tolerance
    assert values == {
        "fd_efficientnet_lite0": pytest.approx(theirs["frechet_inception_distance"], rel=1e-6),
        "is_efficientnet_lite0": pytest.approx(theirs["inception_score_mean"], rel=1e-6),
        "kd_efficientnet_lite0": pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6),
        "precision_efficientnet_lite0": theirs["precision"],
        "recall_efficientnet_lite0": theirs["recall"],
    }
    assert protocol["kd_subset_size"] == 40
    assert "covariance is singular" in protocol["warning"]


@pytest.mark.system
def test_noise_is_farther_than_other_images(
    lite0: EfficientNetLite0, cifar: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    """Noise of 12 grey levels. At 150 images a singular covariance puts a floor under fd; kd has none."""
    reference, others = cifar[0][:150], cifar[0][150:300]
    metric = FeatureScores(
        lambda weights: lite0, ["fd", "kd"], cache=str(tmp_path), device="cpu", batch_size=16
    )
    metric.prepare(Images(reference))
    metric.update(to_uint8(to_model_range(others)))
    clean = metric.compute()[0]
    noise = 12 * torch.randn(others.shape, generator=torch.Generator().manual_seed(0))
    metric.update((others + noise).round().clamp(0, 255).to(torch.uint8))
    noisy = metric.compute()[0]
    assert noisy["fd_efficientnet_lite0"] > 1.5 * clean["fd_efficientnet_lite0"]
    assert abs(clean["kd_efficientnet_lite0"]) < 0.005
    assert noisy["kd_efficientnet_lite0"] > 0.1


def test_only_the_published_inception_may_say_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert SHA256[:8] == Path(URL_INCEPTION_V3).stem.rpartition("-")[2]
    file = tmp_path / Path(URL_INCEPTION_V3).name
    torch.save({"fc.weight": torch.randn(1008, 2048)}, file)

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("loaded before it was verified")

    monkeypatch.setattr(torch, "load", unreachable)
    with pytest.raises(UserError) as error:
        Inception(weights=str(file))
    text = str(error.value)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert f"expected {SHA256}" in text
    assert "fid, is, kid, precision, recall" in text
    assert "metrics=offline" in text


def test_a_verified_inception_gives_the_plain_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights in the published format, with the checksum of the published file set to theirs."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    from dit_exp.metrics import inception

    file = tmp_path / "weights.pth"
    with monkeypatch.context() as patch:
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(module.torch, "load", lambda *args, **kwargs: {})
        state = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "none").state_dict()
    torch.save(state, file)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    extractor = Inception(weights=str(file))
    assert list(extractor.names.values()) == ["fid", "is", "kid", "precision", "recall"]
    features, logits = extractor.network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert (features.shape, logits.shape) == ((1, 2048), (1, 1008))


def test_other_networks_never_say_fid(lite0: EfficientNetLite0) -> None:
    assert list(lite0.names.values()) == [f"{score}_efficientnet_lite0" for score in ALL]


@pytest.mark.parametrize("network", [Inception, DinoV2])
def test_without_a_network_the_message_says_what_to_do(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, path: str) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"Pass metrics\.weights=PATH of that file, or use metrics=offline"):
        network()
    with pytest.raises(UserError, match=r"metrics\.weights=missing\.pth is not a file"):
        network(weights="missing.pth")


def test_another_lite0_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="fd_efficientnet_lite0"):
        EfficientNetLite0(weights=str(tmp_path / "file.pth"))
    with pytest.raises(UserError, match="is not a file"):
        EfficientNetLite0(weights=str(tmp_path / "missing.pth"))


def test_dinov2_loads_metas_format(tmp_path: Path) -> None:
    """A small network of the same family with random weights, saved with Meta's keys and 37x37 positions."""
    import timm

    state = torch.load(dino(tmp_path / "small.pth"), weights_only=True)
    original = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
    network = load_network("small", tmp_path / "small.pth", "metrics", "offline")
    loaded = network.state_dict()
    assert set(loaded) == set(original.state_dict())
    assert all(torch.equal(loaded[key], state[key]) for key in loaded if key != "pos_embed")
    assert loaded["pos_embed"].shape == (1, 257, 384)
    extractor = fidelity_extractor("dinov2-vit-s-14", network)
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)  # at 224 nothing is resized
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = network((images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(extractor(images)[0], expected, atol=1e-4, rtol=1e-4)

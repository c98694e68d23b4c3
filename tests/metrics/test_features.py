from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composing import composed
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scored import Images, random_images

from dit_exp.errors import UserError
from dit_exp.metrics.features import FeatureScores
from dit_exp.metrics.none import NoMetric

CONF = Path(__file__).parents[2] / "conf/metrics"


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2), by symmetric eigendecomposition."""
    x, y = (images[:, 0, 0, :4].double().numpy() for images in (a, b))
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


def test_fd_equals_the_closed_form_of_two_gaussians(scores: Any) -> None:
    reference, generated = random_images(500), random_images(300, seed=1, low=40, high=200)
    metric = scores()
    metric.prepare(Images(reference))
    metric.update(generated)
    assert metric.compute()[0]["fd_corner"] == pytest.approx(frechet(generated, reference), rel=1e-5)


def test_fd_of_a_set_with_itself_is_zero(scores: Any) -> None:
    images = random_images(200)
    metric = scores()
    metric.prepare(Images(images))
    metric.update(images)
    assert abs(metric.compute()[0]["fd_corner"]) < 1e-6 * 128**2


def test_compute_starts_the_next_measurement(scores: Any) -> None:
    metric = scores()
    metric.prepare(Images(random_images(50)))
    metric.update(random_images(20))
    metric.compute()
    metric.update(random_images(30, seed=1))
    assert metric.compute()[1]["n"] == 30


def test_the_reference_is_kept_and_its_file_is_keyed(scores: Any, tmp_path: Path) -> None:
    generated = random_images(40, seed=1)

    def measure(data: Images, **changes: Any) -> tuple[int, float]:
        metric = scores(**changes)
        metric.prepare(data)
        seen = metric.extractor.network.seen
        metric.update(generated)
        return seen, metric.compute()[0]["fd_corner"]

    data = Images(random_images(60))
    first, again = measure(data), measure(data)
    assert (first[0], again[0]) == (60, 0)
    assert first[1] == again[1]
    assert measure(data, reference_samples=50)[0] == 50
    assert measure(data, reference_split="test")[0] == 60
    assert measure(Images(random_images(60, seed=2), identity="other"))[0] == 60
    files = list((tmp_path / "cache/reference").iterdir())
    assert len(files) == 4
    assert {file.suffix for file in files} == {".npz"}


def test_a_reference_of_files_ordered_by_class_has_images_of_all_classes(scores: Any) -> None:
    images, generated = random_images(80), random_images(40, seed=1)
    mixed = torch.arange(80) % 4
    both_ends = torch.cat([images[:20], images[60:]])
    for classes, order, taken in (
        (mixed, None, images[:40]),
        (mixed.sort().values, "evenly spaced", both_ends),
    ):
        metric = scores(reference_samples=40)
        metric.prepare(Images(images, classes=classes))
        metric.update(generated)
        values, protocol = metric.compute()
        assert protocol["reference"].get("order") == order
        assert values["fd_corner"] == pytest.approx(frechet(generated, taken), rel=1e-5)


def test_an_interrupted_reference_leaves_nothing_behind(scores: Any, tmp_path: Path) -> None:
    class Broken(Images):
        def images(self, split: str, count: int | None = None) -> Any:
            yield self.array[:7]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scores().prepare(Broken(random_images(20)))
    assert list((tmp_path / "cache/reference").iterdir()) == []


def test_published_statistics_give_the_same_fd_and_leave_out_what_needs_features(
    scores: Any, tmp_path: Path
) -> None:
    reference, generated = random_images(100), random_images(80, seed=1)
    x = reference[:, 0, 0, :4].double().numpy()
    np.savez(tmp_path / "statistics.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    metric = scores(reference=str(tmp_path / "statistics.npz"), scores=["fd", "is", "kd", "precision"])
    metric.prepare(Images(random_images(10)))
    metric.update(generated)
    values, protocol = metric.compute()
    assert list(values) == ["fd_corner", "is_corner"]
    assert values["fd_corner"] == pytest.approx(frechet(generated, reference), rel=1e-5)
    assert protocol["left_out"] == "kd, precision: the reference is mean and covariance alone"
    assert protocol["reference"]["kind"] == "statistics"
    assert len(protocol["reference"]["sha256"]) == 64


def test_a_file_of_images_is_a_reference_too(scores: Any, tmp_path: Path) -> None:
    reference, generated = random_images(90), random_images(80, seed=1)
    np.savez(tmp_path / "images.npz", reference.permute(0, 2, 3, 1).numpy())
    metric = scores(reference=str(tmp_path / "images.npz"), reference_samples=70, scores=["fd", "kd"])
    metric.prepare(Images(random_images(10)))
    metric.update(generated)
    values, protocol = metric.compute()
    assert values["fd_corner"] == pytest.approx(frechet(generated, reference[:70]), rel=1e-5)
    assert "kd_corner" in values
    assert (protocol["reference"]["kind"], protocol["reference"]["count"]) == ("images", 70)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "the extractor has 4 features: they are another network's"),
        ({"x": np.zeros(3)}, "holds ['x']. It needs mu and sigma, or arr_0"),
        ({"arr_0": np.zeros((5, 3, 8, 8), np.float32)}, "arr_0 float32 (5, 3, 8, 8); images must be uint8"),
    ],
)
def test_other_files_are_refused(
    scores: Any, tmp_path: Path, arrays: dict[str, np.ndarray], text: str
) -> None:
    np.savez(tmp_path / "file.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError) as error:
        scores(reference=str(tmp_path / "file.npz")).prepare(Images(random_images(10)))
    assert text in str(error.value)


def test_a_damaged_file_is_refused(scores: Any, tmp_path: Path) -> None:
    (tmp_path / "file.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"metrics\.reference=.*file\.npz cannot be read as \.npz"):
        scores(reference=str(tmp_path / "file.npz")).prepare(Images(random_images(10)))


def test_update_takes_uint8_rgb_alone(scores: Any) -> None:
    metric = scores()
    metric.prepare(Images(random_images(20)))
    with pytest.raises(TypeError, match=r"uint8 images, got torch\.float32"):
        metric.update(random_images(4).float())
    with pytest.raises(ValueError, match=r"got \(4, 1, 8, 8\)"):
        metric.update(random_images(4)[:, :1])
    with pytest.raises(ValueError, match=r"got \(3, 8, 8\)"):
        metric.update(random_images(4)[0])


def test_what_cannot_be_measured_says_so(scores: Any) -> None:
    metric = scores()
    metric.prepare(Images(random_images(20)))
    metric.update(random_images(1))
    with pytest.raises(UserError, match="2 or more generated images, got 1"):
        metric.compute()
    with pytest.raises(UserError, match="reference_samples=30, but the train split has 20 images"):
        scores(reference_samples=30).prepare(Images(random_images(20)))
    with pytest.raises(UserError, match="The data has 1 channel"):
        scores().prepare(Images(random_images(20)[:, :1]))
    with pytest.raises(UserError, match=r"metrics\.scores: corner has no \['clip'\]"):
        scores(scores=["clip"]).prepare(Images(random_images(20)))
    with pytest.raises(UserError, match="device=gpu is no torch device"):
        scores(device="gpu")


def test_a_cache_that_cannot_be_written_fails_before_the_features(scores: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    metric = scores(cache=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"Pass metrics\.cache=DIR or set DIT_EXP_CACHE"):
        metric.prepare(Images(random_images(20)))
    assert metric.extractor.network.seen == 0


def test_the_protocol_states_counts_and_settings(scores: Any) -> None:
    metric = scores(scores=["fd", "is", "kd", "precision", "recall"])
    metric.prepare(Images(random_images(30), identity="abc"))
    metric.update(random_images(3))
    values, protocol = metric.compute()
    assert list(values) == ["fd_corner", "is_corner", "kd_corner"]
    assert protocol["left_out"] == "precision, recall: too few images"
    assert protocol["warning"].startswith("3 images for 4 features: the covariance is singular")
    assert protocol["reference"] == {"kind": "data", "identity": "abc", "split": "train", "count": 30}
    assert (protocol["kd_subset_size"], protocol["is_splits"], protocol["n"]) == (3, 3, 3)
    assert (protocol["extractor"], protocol["resize"]) == ("corner", "none")
    metric.update(random_images(30, seed=1))
    values, protocol = metric.compute()
    assert {"precision_corner", "recall_corner"} <= set(values)
    assert protocol["neighbourhood"] == 3
    assert "warning" not in protocol


def test_precision_counts_generated_and_recall_counts_reference(scores: Any) -> None:
    narrow, wide = random_images(100, low=120, high=130), random_images(100, seed=1)
    metric = scores(scores=["precision", "recall"])
    metric.prepare(Images(wide))
    metric.update(narrow)
    values = metric.compute()[0]
    assert values["precision_corner"] > 0.9
    assert values["recall_corner"] < 0.1


@pytest.mark.parametrize("choice", ["offline", "fid", "dinov2"])
def test_the_choices_build_without_a_network_or_a_file(
    choice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIT_EXP_CACHE", str(tmp_path))
    metric = instantiate(composed([f"metrics={choice}"])[0].metrics)
    assert isinstance(metric, FeatureScores)
    assert metric.folder == tmp_path / "reference"
    assert metric.num_samples == (5000 if choice == "offline" else 50000)
    assert not list(tmp_path.iterdir())


def test_no_metric_asks_for_nothing() -> None:
    metric = instantiate(OmegaConf.load(CONF / "none.yaml"))
    assert isinstance(metric, NoMetric)
    assert metric.num_samples == 0
    assert metric.compute() == ({}, {})


def test_importing_the_room_imports_no_feature_library() -> None:
    modules = ", ".join(
        f"dit_exp.metrics.{name}" for name in ("features", "efficientnet", "inception", "dinov2")
    )
    code = f"import sys, {modules}; print(sorted({{'torch_fidelity', 'timm', 'scipy'}} & set(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF.parents[1]
    )
    assert out.stdout.strip() == "[]"

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dit_exp.metrics.features import FeatureScores

CIFAR = Path(__file__).parents[2] / "../shared/data/cifar10/test-00000-of-00001.parquet"


class Images:
    """A data set of given uint8 images under every split."""

    num_classes, class_names = 0, ()

    def __init__(self, images: Tensor, identity: str = "images") -> None:
        self.array, self.name, self.image_shape = images, identity, tuple(images.shape[1:])

    def images(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        yield from self.array[:count].split(7)

    def size(self, split: str) -> int:
        return len(self.array)

    def identity(self, split: str) -> str:
        return self.name


class Corner(nn.Module):
    """Features: the first 4 values of the red channel's first row. Logits: the next 3. Counts its images."""

    seen = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        row = images[:, 0, 0].float()
        return row[:, :4], row[:, 4:7] / 64


class CornerExtractor:
    name, dims, sha256, resize = "corner", 4, "0" * 64, "none"

    def __init__(self, weights: str | None = None) -> None:
        self.names = {score: f"{score}_corner" for score in ("fd", "is", "kd", "precision", "recall")}
        self.network = Corner()


@pytest.fixture
def scores(tmp_path: Path) -> Any:
    """Builds FeatureScores over the corner extractor with a cache of the test's own."""

    def build(**changes: Any) -> FeatureScores:
        settings = {"scores": ["fd"], "cache": str(tmp_path / "cache"), "device": "cpu"} | changes
        return FeatureScores(settings.pop("extractor", CornerExtractor), **settings)

    return build


def random_images(n: int, seed: int = 0, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, 3, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="session")
def cifar() -> tuple[Tensor, Tensor]:
    """The first 600 CIFAR-10 test images, uint8 (600, 3, 32, 32), and their labels."""
    if not CIFAR.exists():
        pytest.skip(f"{CIFAR} is missing")
    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    rows = next(pq.ParquetFile(CIFAR).iter_batches(batch_size=600)).to_pylist()
    images = np.stack(
        [np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]
    )
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([row["label"] for row in rows])

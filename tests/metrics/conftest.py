from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from scored import CornerExtractor
from torch import Tensor

from dit_exp.metrics.features import FeatureScores

CIFAR = Path(__file__).parents[2] / "../shared/data/cifar10/test-00000-of-00001.parquet"


@pytest.fixture
def scores(tmp_path: Path) -> Any:
    """Builds FeatureScores over the corner extractor with a cache of the test's own."""

    def build(**changes: Any) -> FeatureScores:
        settings = {"scores": ["fd"], "cache": str(tmp_path / "cache"), "device": "cpu"} | changes
        return FeatureScores(settings.pop("extractor", CornerExtractor), **settings)

    return build


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

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def png() -> Callable[[np.ndarray], bytes]:
    """An array uint8 (H, W, 3) as an encoded file."""

    def encode(array: np.ndarray) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "png")
        return buffer.getvalue()

    return encode


@pytest.fixture
def write(tmp_path: Path, png: Callable[[np.ndarray], bytes]) -> Callable[..., Path]:
    """write(images, labels) puts encoded images or arrays into tmp_path/set/train-....parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def writer(
        images: Sequence[Any],
        labels: Sequence[Any] | None = None,
        name: str = "train-00000-of-00001.parquet",
        column: str = "img",
        label_column: str = "label",
    ) -> Path:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = [png(image) if isinstance(image, np.ndarray) else image for image in images]
        table = {column: [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(encoded)]}
        if labels is not None:
            table[label_column] = list(labels)
        pq.write_table(pa.table(table), path)
        return path

    return writer


@pytest.fixture
def pictures() -> np.ndarray:
    """Thirty random images, uint8 (30, 32, 32, 3)."""
    return np.random.default_rng(5).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)

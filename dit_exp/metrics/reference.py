"""What generated images are compared with: mean and covariance of features, and some of the features.

Features of a data set take minutes, so they are kept in a file whose name follows from all they depend on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dit_exp.data import spaced
from dit_exp.errors import UserError
from dit_exp.pretrained.weights import sha256
from dit_exp.types.data import DataSet

KEPT = 10_000  # features kept for kernel distance, precision and recall

Extract = Callable[[Iterable[Tensor], int], Tensor]
"""(uint8 pieces (b, 3, H, W), their total) -> float32 features (total, D)."""


class Reference(NamedTuple):
    """`mu` (D,), `sigma` (D, D), up to 10,000 `features` (n, D) or None, and `source` for the protocol."""

    mu: np.ndarray
    sigma: np.ndarray
    features: Tensor | None
    source: dict[str, Any]


def from_data(
    data: DataSet,
    split: str,
    count: int | None,
    extract: Extract,
    key: str,
    folder: Path,
    spread: bool = False,
) -> Reference:
    """The first `count` images of a split (None: all), or so many from all over it where they are `spread`.

    Files that are ordered by class have few of them among the first images, so these are spread too.
    `key` names the extractor, its hash and its resize.
    Raises UserError where the split is too small or `folder` cannot be written.
    """
    size = data.size(split)
    if count is not None and count > size:
        raise UserError(
            f"metrics.reference_samples={count}, but the {split} split has {size} images. "
            "Lower it, or pass metrics.reference_samples=null for all."
        )
    count = size if count is None else count
    identity = data.identity(split)
    spread = spread or _lack_classes(data.labels(split), count)
    order = {"order": "evenly spaced"} if spread and count < size else {}
    source = {"kind": "data", "identity": identity, "split": split, "count": count, **order}
    path = folder / f"{split}-{count}-{digest(identity, split, str(count), key, *order.values())}.npz"
    images = spaced.images(data, split, count, 500) if order else data.images(split, count)
    return cached(path, lambda: extract(images, count), source)


def _lack_classes(labels: Tensor | None, count: int) -> bool:
    """Whether the first `count` images are of fewer classes than so many could be of."""
    if labels is None:
        return False
    return len(labels[:count].unique()) < min(count, len(labels.unique()))


def from_file(
    reference: str, count: int | None, extract: Extract, dims: int, key: str, folder: Path
) -> Reference:
    """FILE.npz of published statistics (`mu`, `sigma`) or of images (`arr_0`, uint8 (N, H, W, 3)).

    Raises UserError where the file is neither, or its statistics are another network's.
    """
    path = Path(reference).expanduser()
    try:
        arrays = np.load(path, allow_pickle=False)
        found = set(arrays.files)
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"metrics.reference={reference} cannot be read as .npz: {error}.") from error
    file_hash = sha256(path)
    source = {"kind": "statistics", "file": path.name, "sha256": file_hash, "count": None}
    if {"mu", "sigma"} <= found:
        mu, sigma = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
        if mu.shape != (dims,) or sigma.shape != (dims, dims):
            raise UserError(
                f"metrics.reference={reference} holds mu {mu.shape} and sigma {sigma.shape}, but "
                f"the extractor has {dims} features: they are another network's. Choose that metrics=."
            )
        return Reference(mu, sigma, None, source)
    if "arr_0" not in found:
        raise UserError(
            f"metrics.reference={reference} holds {sorted(found)}. "
            "It needs mu and sigma, or arr_0 with uint8 images (N, H, W, 3)."
        )
    images = arrays["arr_0"][:count]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            f"metrics.reference={reference} holds arr_0 {images.dtype} {images.shape}; "
            "images must be uint8 (N, H, W, 3)."
        )
    total = len(images)
    source |= {"kind": "images", "count": total}
    cache_path = folder / f"file-{total}-{digest(file_hash, str(total), key)}.npz"
    return cached(cache_path, lambda: extract(pieces(images), total), source)


def pieces(images: np.ndarray) -> Iterator[Tensor]:
    """uint8 (N, H, W, 3) -> uint8 (b, 3, H, W) of at most 500."""
    for start in range(0, len(images), 500):
        yield torch.from_numpy(images[start : start + 500]).permute(0, 3, 1, 2)


def digest(*facts: str) -> str:
    """Sixteen hexadecimal digits that change with any fact."""
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def cached(path: Path, compute: Callable[[], Tensor], source: dict[str, Any]) -> Reference:
    """Loads `path`, or computes the features, writes it in one step and returns what it holds."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    if source["count"] < 2:
        raise UserError(f"The reference has {source['count']} images; a covariance needs 2 or more.")
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return Reference(kept["mu"], kept["sigma"], torch.from_numpy(kept["features"]), source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # opened before the features are computed, so that a folder that is read-only fails early
        file = tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False)  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"metrics.cache: {path.parent} cannot be written: {error}. "
            "Pass metrics.cache=DIR or set DIT_EXP_CACHE."
        ) from error
    try:
        with file:
            features = compute()
            statistics = fid_features_to_statistics(features)
            # spread over the whole set, since files may be ordered by class
            rows = torch.linspace(0, len(features) - 1, min(KEPT, len(features)), dtype=torch.float64)
            features = features[rows.round().long()]
            np.savez(file, features=features.numpy(), **statistics)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise
    return Reference(statistics["mu"], statistics["sigma"], features, source)

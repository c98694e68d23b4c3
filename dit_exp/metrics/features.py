"""Scores that compare features of generated images with features of a reference.

The arithmetic is torch-fidelity's but for the Frechet distance; here the features are gathered, and the
protocol of the measurement is written down, without which a score means nothing: counts, reference, network,
resize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dit_exp import parallel
from dit_exp.device import exact_convolutions, resolve_device
from dit_exp.errors import UserError
from dit_exp.metrics.frechet import FrechetDistance
from dit_exp.metrics.reference import Reference, from_data, from_file
from dit_exp.types.data import DataSet

NEIGHBOURHOOD = 3  # of precision and recall, as in Kynkäänniemi et al. 2019, arXiv:1904.06991
KD_SUBSETS, KD_SUBSET_SIZE = 100, 1000  # as in Binkowski et al. 2018, arXiv:1801.01401
IS_SPLITS = 10


class Extractor(Protocol):
    """A feature network. `names` maps the scores it can give (fd, is, kd, precision, recall) to their names.

    `network` maps uint8 (B, 3, H, W) to (features (B, dims),) or (features, logits).
    """

    name: str
    dims: int
    names: dict[str, str]
    resize: str
    sha256: str
    network: nn.Module


class FeatureScores:
    """Frechet and kernel distance, inception score, precision and recall of generated images.

    extractor          builder extractor(weights) of the feature network
    scores             which of fd, is, kd, precision, recall
    num_samples        generated images that the task draws
    reference_samples  images of `reference_split`, or of the images in `reference`; None takes all
    reference          FILE.npz in place of the data: `mu` and `sigma`, or `arr_0`, uint8 images (N, H, W, 3)
    weights            the network's file; None takes the extractor's own source
    cache              folder of reference features
    device             "auto" (CUDA where there is one) or a torch device
    """

    def __init__(
        self,
        extractor: Callable[..., Extractor],
        scores: list[str],
        num_samples: int = 5000,
        reference_samples: int | None = None,
        reference_split: str = "train",
        reference: str | None = None,
        weights: str | None = None,
        batch_size: int = 64,
        cache: str = "~/.cache/dit_exp",
        device: str = "auto",
    ) -> None:
        if num_samples < 2 or batch_size < 1:
            raise UserError(
                f"metrics.num_samples={num_samples} must be at least 2, metrics.batch_size={batch_size} "
                "at least 1. metrics=none measures nothing."
            )
        self.build, self.scores, self.num_samples = extractor, list(scores), num_samples
        self.reference_samples, self.reference_split = reference_samples, reference_split
        self.reference_file, self.weights, self.batch_size = reference, weights, batch_size
        self.folder = Path(cache).expanduser() / "reference"
        self.device = resolve_device(device, parallel.world().local_rank)
        self.extractor: Extractor | None = None
        self.reference: Reference | None = None
        self._clear()

    def prepare(self, data: DataSet, split: str | None = None, count: int | None = None) -> None:
        """Loads the network and the reference. Raises UserError for what would fail later.

        split  where it is given, the reference are `count` images from all over it, by data.spaced
        """
        self.spread = split is not None
        if split is not None:
            self.reference_split, self.reference_samples, self.reference_file = split, count, None
        if data.image_shape[0] != 3:
            raise UserError(
                f"The data has {data.image_shape[0]} channel(s), and feature networks take RGB images. "
                "Use metrics=none, or RGB data."
            )
        extractor = self.extractor = self.build(weights=self.weights)
        if unknown := [score for score in self.scores if score not in extractor.names]:
            raise UserError(
                f"metrics.scores: {extractor.name} has no {unknown}. Choose from {list(extractor.names)}."
            )
        extractor.network.to(self.device).to(memory_format=torch.channels_last)
        key = f"{extractor.name} {extractor.sha256} {extractor.resize}, batch norms folded"
        with parallel.main_first():
            reference = self.reference = self._reference(data, extractor.dims, key)
        self.distance = FrechetDistance(reference.mu, reference.sigma)
        self._clear()

    def _reference(self, data: DataSet, dims: int, key: str) -> Reference:
        count, extract, folder = self.reference_samples, self._extract_all, self.folder
        if self.reference_file is None:
            return from_data(data, self.reference_split, count, extract, key, folder, self.spread)
        return from_file(self.reference_file, count, extract, dims, key, folder)

    def _clear(self) -> None:
        self.features: dict[int, Tensor] = {}  # by the number of the first image
        self.logits: dict[int, Tensor] = {}

    def update(self, images: Tensor, start: int | None = None) -> None:
        """Adds generated images, uint8 (B, 3, H, W). Raises TypeError or ValueError for anything else.

        start  number of the first; what is computed depends on the numbers, not on the order of the calls
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"Scores take uint8 images, got {images.dtype}; images.to_uint8 rounds to them.")
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"Scores take images (B, 3, H, W), got {tuple(images.shape)}.")
        at = sum(len(piece) for piece in self.features.values()) if start is None else start
        for piece in images.split(self.batch_size):
            features, *logits = self._extract(piece)
            self.features[at] = features
            if "is" in self.scores:
                self.logits[at] = logits[0]
            at += len(piece)

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores and protocol of the images that all processes added since `prepare` or the last `compute`.

        Raises UserError below two images.
        """
        features, logits = _in_order(self.features), _in_order(self.logits)
        self._clear()
        return parallel.from_main(lambda: self._compute(features, logits))

    def _compute(self, features: Tensor, logits: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
        from torch_fidelity.metric_fid import fid_features_to_statistics
        from torch_fidelity.metric_isc import isc_features_to_metric
        from torch_fidelity.metric_kid import kid_features_to_metric
        from torch_fidelity.metric_prc import prc_features_to_metric

        extractor, reference = self._prepared()
        n = len(features)
        if n < 2:
            raise UserError(f"Scores need 2 or more generated images, got {n}. Raise metrics.num_samples.")
        values: dict[str, float] = {}
        protocol = self._protocol(extractor, reference, n)
        if "fd" in self.scores:
            values["fd"] = self.distance(**fid_features_to_statistics(features))
        if "is" in self.scores:
            protocol["is_splits"] = splits = min(IS_SPLITS, n)
            values["is"] = isc_features_to_metric(logits, splits)["inception_score_mean"]
        if reference.features is not None:
            fewest = min(n, len(reference.features))
            if {"kd", "precision", "recall"} & set(self.scores):
                protocol["reference_features"] = len(reference.features)
            if "kd" in self.scores:
                size = min(KD_SUBSET_SIZE, fewest)
                protocol |= {"kd_subsets": KD_SUBSETS, "kd_subset_size": size}
                values["kd"] = kid_features_to_metric(
                    features, reference.features, kid_subsets=KD_SUBSETS, kid_subset_size=size, verbose=False
                )["kernel_inception_distance_mean"]
            if {"precision", "recall"} & set(self.scores) and fewest > NEIGHBOURHOOD:
                protocol["neighbourhood"] = NEIGHBOURHOOD
                values |= prc_features_to_metric(
                    features,
                    reference.features,
                    prc_neighborhood=NEIGHBOURHOOD,
                    save_cpu_ram=True,
                    verbose=False,
                )
        if missing := [score for score in self.scores if score not in values]:
            why = (
                "the reference is mean and covariance alone"
                if reference.features is None
                else "too few images"
            )
            protocol["left_out"] = f"{', '.join(missing)}: {why}"
        return {extractor.names[score]: values[score] for score in self.scores if score in values}, protocol

    def _protocol(self, extractor: Extractor, reference: Reference, n: int) -> dict[str, Any]:
        from torch_fidelity.version import __version__

        protocol = {
            "n": n,
            "reference": reference.source,
            "extractor": extractor.name,
            "extractor_hash": extractor.sha256,
            "resize": extractor.resize,
            "generated_rounding": "nearest",  # images.to_uint8
            "torch_fidelity": __version__,
        }
        fewest = min(n, reference.source["count"] or n)
        if fewest < extractor.dims:
            protocol["warning"] = (
                f"{fewest} images for {extractor.dims} features: the covariance is singular and the distance "
                "depends on the count. Compare it only with scores at the same counts."
            )
        return protocol

    def _prepared(self) -> tuple[Extractor, Reference]:
        if self.extractor is None or self.reference is None:
            raise RuntimeError("FeatureScores.prepare(data) comes first.")
        return self.extractor, self.reference

    @torch.inference_mode()
    def _extract(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) -> float32 features (and logits) on the CPU."""
        if self.extractor is None:
            raise RuntimeError("FeatureScores.prepare(data) comes first.")
        # an evaluation may run under autocast, whose bfloat16 would shift the features, and GPUs round the
        # factors of convolutions to TF32 unless told otherwise
        with torch.autocast(self.device.type, enabled=False), exact_convolutions():
            out = self.extractor.network(images.to(self.device))
        return tuple(layer.float().cpu() for layer in out)

    def _extract_all(self, images: Iterable[Tensor], total: int) -> Tensor:
        from tqdm import tqdm

        features = []
        with tqdm(total=total, desc="reference features", unit="image", disable=None) as bar:
            for group in images:
                for piece in group.split(self.batch_size):
                    features.append(self._extract(piece)[0])
                    bar.update(len(piece))
        return torch.cat(features)


def _in_order(pieces: dict[int, Tensor]) -> Tensor:
    """The pieces of all processes, by the number of their first image."""
    whole = {start: piece for share in parallel.gathered(pieces) for start, piece in share.items()}
    return torch.cat([whole[start] for start in sorted(whole)]) if whole else torch.empty(0)

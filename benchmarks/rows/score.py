"""Features of Inception's architecture and Frechet distances of 2048 dimensions, against torch-fidelity.

The weights are drawn: what a feature network costs does not depend on them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks.paired import Row, Setting, compared, interleaved
from dit_exp.metrics.folding import fold_batch_norms
from dit_exp.metrics.frechet import FrechetDistance
from dit_exp.metrics.resizing import resize_by_products

FEATURES_REACH, DISTANCE_REACH = 1.4, 3.0
IMAGES = 500
ROUNDS = 3
"""Of distances, torch-fidelity's of which take seconds each and hardly differ."""


@contextmanager
def no_weights() -> Iterator[None]:
    """In the `with`, torch-fidelity's network keeps the weights that it is made with."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with (
        mock.patch.object(module.FeatureExtractorInceptionV3, "load_state_dict", return_value=None),
        mock.patch.object(module.torch, "load", return_value={}),
    ):
        yield


def inception() -> nn.Module:
    """torch-fidelity's Inception with drawn weights and batch norms that are not the identity."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with no_weights():
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "none")
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
    return network


def statistics_of(dims: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Mean and covariance, with a spectrum that falls as that of features does."""
    features = rng.standard_normal((2 * dims, dims)) / np.sqrt(np.arange(1, dims + 1))
    return {"mu": features.mean(0), "sigma": np.cov(features, rowvar=False)}


def rows(setting: Setting) -> Iterator[Row]:
    yield _features(setting)
    yield _distance(setting)


def _features(setting: Setting) -> Row:
    """The 500 images are spread over the rounds."""
    plain = inception().to(setting.device)
    fast = resize_by_products(fold_batch_norms(copy.deepcopy(plain))).to(memory_format=torch.channels_last)
    count = setting.size(-(-IMAGES // (setting.rounds + 1)), 1)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, device=setting.device)
    with torch.inference_mode():
        expected, said = plain(images)[0], fast(images)[0]
        if (apart := float((said - expected).norm() / expected.norm())) > 1e-5:
            raise AssertionError(f"The features differ by {apart:.1e} of themselves.")
        jobs = {"ours": lambda: fast(images), "torch-fidelity": lambda: plain(images)}
        times = interleaved(jobs, setting)
    work = f"Inception features of {count} images a round"
    return compared(times, "ours", "torch-fidelity", "score", work, FEATURES_REACH)


def _distance(setting: Setting) -> Row:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    dims = setting.size(2048, 64)
    rng = np.random.default_rng(0)
    reference, generated = statistics_of(dims, rng), statistics_of(dims, rng)
    distance = FrechetDistance(**reference)

    def theirs() -> float:
        return fid_statistics_to_metric(generated, reference, verbose=False)["frechet_inception_distance"]

    ours, expected = distance(**generated), theirs()
    if abs(ours - expected) > 1e-6 * abs(expected):
        raise AssertionError(f"The distance is {ours}, torch-fidelity's {expected}.")
    few = Setting(setting.device, min(ROUNDS, setting.rounds), setting.quick)
    times = interleaved({"ours": lambda: distance(**generated), "torch-fidelity": theirs}, few)
    work = f"Frechet distance of {dims} dimensions, the reference's root kept"
    return compared(times, "ours", "torch-fidelity", "score", work, DISTANCE_REACH)

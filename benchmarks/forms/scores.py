"""Features and distances."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.forms.kind import Kind
from benchmarks.paired import Job, Setting
from benchmarks.rows.score import inception, statistics_of
from dit_exp.metrics.folding import fold_batch_norms
from dit_exp.metrics.frechet import FrechetDistance
from dit_exp.metrics.resizing import resize_by_products


def features(setting: Setting) -> Kind:
    plain = inception()
    folded = fold_batch_norms(copy.deepcopy(plain))
    last = copy.deepcopy(folded).to(memory_format=torch.channels_last)
    resizing = resize_by_products(copy.deepcopy(last))
    images = torch.randint(0, 256, (setting.size(16, 1), 3, 32, 32), dtype=torch.uint8)

    def job(network: nn.Module) -> Job:
        return torch.inference_mode()(lambda: network(images)[0])

    forms = {
        "batch norms folded, channels last, resized by products": job(resizing),
        "folded, channels last": job(last),
        "folded": job(folded),
        "as it is": job(plain),
    }
    return Kind(f"Inception features of {len(images)} images", forms, 1e-4)


def distances(setting: Setting) -> Kind:
    from scipy.linalg import sqrtm

    dims = setting.size(2048, 64)
    rng = np.random.default_rng(0)
    one, other = (statistics_of(dims, rng) for _ in range(2))
    kept = FrechetDistance(**one)
    apart, traces = one["mu"] - other["mu"], np.trace(one["sigma"]) + np.trace(other["sigma"])

    def distance(shared: Callable[[np.ndarray], float]) -> Tensor:
        return torch.tensor(float(apart @ apart + traces - 2 * shared(one["sigma"] @ other["sigma"])))

    forms: dict[str, Job] = {
        "eigenvalues of a symmetric matrix": lambda: torch.tensor(kept(**other)),
        "eigenvalues of the product": lambda: distance(
            lambda product: np.sqrt(np.linalg.eigvals(product).astype(complex)).real.sum()
        ),
        "square root of the product": lambda: distance(lambda product: np.trace(sqrtm(product)).real),
    }
    return Kind(f"Frechet distance of {dims} dimensions", forms, 1e-6)

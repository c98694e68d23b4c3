"""The Frechet distance against closed forms, scipy and torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from torch_fidelity.metric_fid import fid_statistics_to_metric

from dit_exp.metrics.frechet import FrechetDistance


def statistics(count: int, dims: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of random features with spectra that fall as those of networks do."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, dims)) @ rng.standard_normal((dims, dims))
    features = 0.5 + features / np.arange(1, dims + 1)
    return features.mean(0), np.cov(features, rowvar=False)


def test_gaussians_with_diagonal_covariances_are_as_far_as_their_deviations_and_means():
    distance = FrechetDistance(np.array([1.0, 0.0]), np.diag([4.0, 9.0]))
    # |(1, 0) - (0, 2)|^2 + (2 - 1)^2 + (3 - 5)^2
    assert distance(np.array([0.0, 2.0]), np.diag([1.0, 25.0])) == pytest.approx(5 + 1 + 4, rel=1e-12)


@pytest.mark.parametrize("count", [400, 60])
def test_the_distance_is_that_of_torch_fidelity_to_a_millionth_also_where_covariances_are_singular(
    count: int,
):
    reference, generated = statistics(500, 100, seed=0), statistics(count, 100, seed=1)
    ours = FrechetDistance(*reference)(*generated)
    names = "mu", "sigma"
    theirs = fid_statistics_to_metric(
        dict(zip(names, generated, strict=True)), dict(zip(names, reference, strict=True)), verbose=False
    )["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_the_distance_has_the_trace_of_the_square_root_of_the_product():
    (m1, s1), (m2, s2) = statistics(300, 40, seed=2), statistics(300, 40, seed=3)
    trace = np.trace(scipy.linalg.sqrtm(s1 @ s2)).real
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * trace
    assert FrechetDistance(m1, s1)(m2, s2) == pytest.approx(expected, rel=1e-6)


def test_the_root_of_the_reference_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    calls, real = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: calls.append(1) or real(matrix))
    distance = FrechetDistance(*statistics(100, 8, seed=0))
    assert distance(*statistics(100, 8, seed=1)) != distance(*statistics(100, 8, seed=2))
    assert len(calls) == 1

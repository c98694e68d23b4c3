"""Probes have mean 0 and the identity as covariance; Rademacher's vary least."""

from __future__ import annotations

import pytest
import torch

from dit_exp.probe.gaussian import Gaussian
from dit_exp.probe.rademacher import Rademacher


def drawn(probe) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([probe((2, 2), generator) for _ in range(20_000)]).flatten(1)


@pytest.mark.parametrize("probe", [Gaussian(), Rademacher()])
def test_probes_have_mean_0_and_unit_covariance(probe):
    v = drawn(probe)
    assert v.mean(0).abs().max() < 0.03
    torch.testing.assert_close(v.T @ v / len(v), torch.eye(4), rtol=0, atol=0.04)


def test_rademacher_is_exact_on_a_diagonal_and_gaussian_is_not():
    diagonal = torch.tensor([1.0, -2.0, 3.0, 4.0])
    assert ((drawn(Rademacher()) ** 2) @ diagonal).unique().tolist() == [6.0]
    variance = float(((drawn(Gaussian()) ** 2) @ diagonal).var())
    assert variance == pytest.approx(2 * float(diagonal.square().sum()), rel=0.05)

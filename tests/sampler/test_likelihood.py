"""The ODE's log density against closed forms, on data whose denoiser is exact."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from oracle import Correlated, Gaussian, denoiser

from dit_exp.grid.karras import Karras
from dit_exp.probe.gaussian import Gaussian as GaussianProbe
from dit_exp.probe.rademacher import Rademacher
from dit_exp.process.cosine import Cosine
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.gvp import GVP
from dit_exp.process.linear import Linear
from dit_exp.process.subvp import SubVP
from dit_exp.process.vp import VP
from dit_exp.sampler.likelihood import field, log_likelihood
from dit_exp.sampler.path import Path
from dit_exp.sampler.walk import stops
from dit_exp.types.diffusion import Denoised

PROCESSES = [Flow(), GVP(), VP(), SubVP(), EDM(), Linear(), Linear(zero_terminal_snr=True), Cosine()]
MEAN = torch.tensor([0.2, -0.3, 0.1, 0.4]).double()
COVARIANCE = torch.tensor(
    [[0.30, 0.20, 0.05, 0.00], [0.20, 0.25, 0.10, 0.05], [0.05, 0.10, 0.20, 0.10], [0.00, 0.05, 0.10, 0.15]]
).double()
SIGNS = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4))).double().reshape(16, 1, 1, 2, 2)


def way(process, steps: int):
    return Karras()(process, steps + 1)[:-1]


def images(n: int) -> torch.Tensor:
    return 0.3 + 0.5 * torch.randn(
        n, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


def closed_form(x: torch.Tensor) -> torch.Tensor:
    """log N(x; 0.3, 0.5^2), summed over an image."""
    return torch.distributions.Normal(0.3, 0.5).log_prob(x).flatten(1).sum(1)


def ours(process, x: torch.Tensor, steps: int) -> torch.Tensor:
    oracle = Gaussian(process, 0.3, 0.5)
    return log_likelihood(denoiser(oracle), x, process, way(process, steps), [torch.ones_like(x)])


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_on_gaussian_data_the_log_likelihood_is_the_closed_form(process):
    x = images(64)
    dimensions = 12
    error = (ours(process, x, 200) - closed_form(x)) / dimensions
    assert error.mean().abs() < 1e-3  # nats a dimension; images differ by what x_1 still knows of x_0
    assert error.abs().max() < 5e-3


def test_the_error_falls_with_the_square_of_the_step():
    process, x = Flow(), images(8)
    exact = ours(process, x, 800)  # the first noise is in both
    errors = [float((ours(process, x, n) - exact).abs().mean()) for n in (20, 40, 80)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("process", [Flow(), EDM(), Linear()], ids=lambda p: type(p).__name__)
def test_correlated_data_with_all_sign_vectors_as_probes(process):
    oracle = Correlated(process, MEAN, COVARIANCE)
    law = torch.distributions.MultivariateNormal(MEAN, COVARIANCE)
    torch.manual_seed(0)
    x = law.sample((16,))
    probes = [probe.expand(16, 1, 2, 2) for probe in SIGNS]
    found = log_likelihood(denoiser(oracle), x.reshape(16, 1, 2, 2), process, way(process, 200), probes)
    error = (found - law.log_prob(x)) / 4
    assert error.mean().abs() < 1e-3
    assert error.abs().max() < 5e-3


def linear_field(x, t):
    """noise - x0 = A x for the matrix below."""
    turned = (x.flatten(1) @ MATRIX.T).reshape(x.shape)
    return Denoised(torch.zeros_like(x), turned)


MATRIX = torch.arange(16).reshape(4, 4).double() ** 1.5 - 20
HERE = Path(*stops(Flow(), torch.tensor([0.3, 0.5], dtype=torch.float64)), bend=1.0)


def estimates(probes: torch.Tensor) -> torch.Tensor:
    """div u of the linear field, one estimate for each probe."""
    x = torch.zeros(len(probes), 1, 2, 2, dtype=torch.float64)
    return field(linear_field, x, HERE.now, HERE, [probes.reshape(x.shape).double()])[1]


def test_the_mean_over_all_sign_vectors_is_the_trace_exactly():
    assert float(estimates(SIGNS).mean()) == pytest.approx(float(MATRIX.trace()), rel=1e-12)


@pytest.mark.parametrize("probe", [Rademacher(), GaussianProbe()])
def test_probes_are_unbiased_on_a_linear_field(probe):
    generator = torch.Generator().manual_seed(0)
    found = estimates(torch.stack([probe((1, 2, 2), generator) for _ in range(20_000)]))
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - float(MATRIX.trace())) < 3 * error


def test_several_probes_are_averaged():
    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    several = field(linear_field, x, HERE.now, HERE, [probe.reshape(x.shape) for probe in SIGNS])[1]
    assert float(several) == pytest.approx(float(MATRIX.trace()), rel=1e-12)


def test_a_start_at_the_data_itself_is_refused():
    process, x = Flow(), images(1)
    with pytest.raises(ValueError, match="must start above t=0"):
        log_likelihood(denoiser(Gaussian(process)), x, process, process.grid(4), [x])

"""Draws of training times against the distributions they are named for."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.process.cosine import Cosine
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.vp import VP
from dit_exp.timesteps.cosmap import CosMap
from dit_exp.timesteps.importance import Importance
from dit_exp.timesteps.log_normal import LogNormal
from dit_exp.timesteps.logit_normal import LogitNormal
from dit_exp.timesteps.mode import Mode
from dit_exp.timesteps.stratified import Stratified
from dit_exp.timesteps.uniform import Uniform

CPU = torch.device("cpu")
ALL = [Uniform(), Stratified(), LogitNormal(), LogNormal(), CosMap(), Mode(), Mode(scale=-1.0), Importance()]


def name(part) -> str:
    return type(part).__name__


def drawn(timesteps, n: int = 100_000, process=None) -> torch.Tensor:
    torch.manual_seed(0)
    return timesteps(process or Flow(), n, CPU).t.double()


@pytest.mark.parametrize("timesteps", ALL, ids=name)
@pytest.mark.parametrize("process", [Flow(), EDM(), VP(), Linear(), Linear(zero_terminal_snr=True)], ids=name)
def test_times_lie_in_the_process_s_range_and_weights_average_1(timesteps, process):
    torch.manual_seed(0)
    place, t, weight = timesteps(process, 4096, CPU)
    assert place.shape == t.shape == weight.shape == (4096,)
    assert ((t > 0) & (t <= 1)).all()
    assert (process.coefficients(t)[1] > 0).all()
    assert float(weight.mean()) == pytest.approx(1)


@pytest.mark.parametrize("timesteps", [t for t in ALL if not isinstance(t, Importance)], ids=name)
def test_the_ends_of_the_uniform_draw_are_times(timesteps):
    u = torch.tensor([2**-24, 1.0])
    for process in (Flow(), Linear(), EDM()):
        low, high = timesteps.times(u, process).tolist()
        assert 0 < low < high <= 1


def test_uniform_fills_the_range_evenly():
    counts = torch.histc(drawn(Uniform()), bins=10, min=0, max=1)
    assert ((counts - 10_000).abs() < 500).all()


@pytest.mark.parametrize(
    "timesteps", [Stratified(), LogitNormal(stratified=True), CosMap(stratified=True)], ids=name
)
def test_stratified_puts_one_draw_in_every_stratum(timesteps):
    torch.manual_seed(0)
    for _ in range(20):
        place = timesteps(Flow(), 64, CPU).place
        assert torch.equal((place.sort().values * 64).ceil(), torch.arange(1.0, 65.0))


def test_stratified_is_not_tied_to_the_place_in_the_batch():
    torch.manual_seed(0)
    first = torch.stack([Stratified()(Flow(), 8, CPU).t[0] for _ in range(4000)])
    assert abs(float(first.mean()) - 0.5) < 0.02
    assert abs(float(first.std()) - 12**-0.5) < 0.02


def test_the_logit_of_logit_normal_times_is_normal():
    logit = drawn(LogitNormal(mean=0.5, std=0.8)).logit()
    assert float(logit.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(logit.std()) == pytest.approx(0.8, abs=0.01)
    assert float(((logit - 0.5) / 0.8 > 1).double().mean()) == pytest.approx(0.1587, abs=0.004)


@pytest.mark.parametrize("process", [EDM(), VP(), Flow()], ids=name)
def test_log_normal_levels_have_edm_s_mean_and_deviation_on_every_process(process):
    alpha, sigma = process.coefficients(drawn(LogNormal(), process=process))
    level = (sigma / alpha).log()
    assert float(level.mean()) == pytest.approx(-1.2, abs=0.015)
    assert float(level.std()) == pytest.approx(1.2, abs=0.015)


def test_log_normal_on_steps_draws_the_nearest_one():
    process = Linear()
    told = process.network_time(drawn(LogNormal(), process=process))
    assert torch.equal(told, told.round())
    median = float(told.median())  # sigma / alpha = exp(-1.2)
    expected = process.index(process.time_at(torch.tensor(math.exp(-1.2)))) - 1
    assert abs(median - float(expected)) <= 2


def test_cosmap_has_its_published_density_and_the_cosine_schedule_s_levels():
    t = drawn(CosMap())
    for low in (0.05, 0.5, 0.8):
        density = 2 / (math.pi * (1 - 2 * (low + 0.05) + 2 * (low + 0.05) ** 2))
        share = float(((t > low) & (t <= low + 0.1)).double().mean())
        assert share == pytest.approx(density * 0.1, rel=0.03)
    u = torch.linspace(0.2, 0.9, 8, dtype=torch.float64)
    level = CosMap().times(u, Flow()) / (1 - CosMap().times(u, Flow()))
    alpha, sigma = Cosine(steps=100_000).coefficients(u)
    torch.testing.assert_close(level, sigma / alpha, rtol=0.05, atol=0)  # the schedule's offset of 0.008


def test_mode_is_its_formula_and_favours_the_middle_or_the_ends():
    u = torch.linspace(0.1, 1, 10, dtype=torch.float64)
    w = 1 - u
    formula = 1 - w - 1.29 * ((math.pi / 2 * w).cos() ** 2 - 1 + w)
    torch.testing.assert_close(Mode().times(u, Flow()), formula)
    torch.testing.assert_close(Mode(scale=0.0).times(u, Flow()), u)

    def middle(scale: float) -> float:
        return float(((drawn(Mode(scale=scale)) - 0.5).abs() < 0.1).double().mean())

    assert middle(-0.9) < 0.17 < 0.2 < 0.3 < middle(1.29)


@pytest.mark.parametrize(
    ("make", "keys", "text"),
    [
        (LogitNormal, {"std": 0.0}, r"timesteps.std=0.0 must be above 0"),
        (LogNormal, {"std": -1.0}, r"timesteps.std=-1.0 must be above 0"),
        (Mode, {"scale": 2.0}, r"timesteps.scale=2.0 must lie in \[-1, 1.752\]"),
        (Importance, {"bins": 0}, r"timesteps.bins=0 and timesteps.history=10"),
        (Importance, {"uniform": 0.0}, r"timesteps.uniform=0.0 must lie in \(0, 1\]"),
    ],
)
def test_what_is_no_distribution_is_refused_by_its_key(make, keys, text):
    with pytest.raises(ValueError, match=text):
        make(**keys)

"""The moving average against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dit_exp.ema import averaged, decay_at


def test_decay_grows_from_a_tenth_to_its_limit():
    assert decay_at(1, 0.9999) == pytest.approx(2 / 11)
    assert decay_at(90, 0.9999) == pytest.approx(0.91)
    assert decay_at(10**6, 0.9999) == 0.9999


def test_constant_weights_are_their_own_average_from_the_first_update():
    model = nn.Linear(3, 2)
    ema = averaged(model, 0.9999)
    with torch.no_grad():
        model.weight.fill_(5.0)
    ema.update_parameters(model)
    assert torch.equal(ema.module.weight, model.weight)


def test_the_average_is_the_closed_form():
    model = nn.Linear(1, 1, bias=False).double()
    ema = averaged(model, 0.5)
    expected, values = None, [1.0, 4.0, -2.0, 3.0, 7.0]
    for updates, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update_parameters(model)
        d = decay_at(updates, 0.5)
        expected = value if expected is None else d * expected + (1 - d) * value
    assert float(ema.module.weight) == pytest.approx(expected, abs=1e-12)


def test_without_a_limit_the_average_reaches_over_the_same_share_of_any_run():
    """The ramp alone is the power-function average of Karras et al. 2024, arXiv:2312.02696, with gamma = 8.

    Weights seen at a share s of the run count in proportion to s^8, whatever the run's length.
    """
    for n in (1000, 5000):
        decays = [decay_at(k, 1.0) for k in range(n)]
        later = torch.tensor(decays, dtype=torch.float64).flip(0).cumprod(0).flip(0)
        counted = 1 - later[n // 2] / decays[n // 2]  # of the second half
        assert float(counted) == pytest.approx(1 - 0.5**9, abs=2e-3)
        share = torch.arange(n, dtype=torch.float64) / n
        weight = torch.cat([later[1:], torch.ones(1)]) * (1 - torch.tensor(decays, dtype=torch.float64))
        mean = float((weight * share).sum() / weight.sum())
        deviation = float(((weight * (share - mean) ** 2).sum() / weight.sum()) ** 0.5)
        assert mean == pytest.approx(9 / 10, abs=5e-3)
        assert deviation == pytest.approx((9 / (10**2 * 11)) ** 0.5, abs=3e-3)  # sigma_rel


def test_the_average_is_in_eval_mode_and_takes_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    ema = averaged(model, 0.9)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.parameters())
    assert all(p.requires_grad for p in model.parameters())

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


def test_the_average_is_in_eval_mode_and_takes_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    ema = averaged(model, 0.9)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.parameters())
    assert all(p.requires_grad for p in model.parameters())

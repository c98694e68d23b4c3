"""Draws of training times."""

from __future__ import annotations

import torch

from dit_exp.timesteps.stratified import Stratified
from dit_exp.timesteps.uniform import Uniform

CPU = torch.device("cpu")


def test_uniform_fills_the_range_evenly():
    torch.manual_seed(0)
    counts = torch.histc(Uniform()(100_000, CPU), bins=10, min=0, max=1)
    assert ((counts - 10_000).abs() < 500).all()


def test_stratified_puts_one_time_in_every_stratum():
    torch.manual_seed(0)
    for _ in range(20):
        u = Stratified()(64, CPU)
        assert torch.equal((u.sort().values * 64).ceil(), torch.arange(1.0, 65.0))


def test_stratified_is_not_tied_to_the_place_in_the_batch():
    torch.manual_seed(0)
    first = torch.stack([Stratified()(8, CPU)[0] for _ in range(4000)])
    assert abs(float(first.mean()) - 0.5) < 0.02
    assert abs(float(first.std()) - 12**-0.5) < 0.02

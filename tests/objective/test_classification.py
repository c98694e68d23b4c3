"""The loss of a classifier of noised images."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.objective.classification import Classification
from dit_exp.process.flow import Flow
from dit_exp.timesteps.uniform import Uniform


def test_the_loss_is_the_surprise_at_the_label():
    def network(x, t, label):
        assert label is None  # it must not be told what it is to find
        return torch.tensor([0.7, 0.2, 0.1]).log().expand(len(x), 3)

    x0, label = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2])
    loss = Classification(Flow(), Uniform()).loss(network, x0, label)
    assert loss.tolist() == pytest.approx([-math.log(p) for p in (0.7, 0.2, 0.1)], rel=1e-5)


def test_the_network_sees_the_image_at_the_noise_of_its_time():
    seen = []

    def network(x, t, label):
        seen.append((x, t))
        return torch.zeros(len(x), 2)

    torch.manual_seed(0)
    x0 = torch.full((500, 1, 8, 8), 0.5)
    Classification(Flow(), Uniform()).loss(network, x0, torch.zeros(500, dtype=torch.int64))
    [(x, t)] = seen
    assert t.min() < 0.1
    assert t.max() > 0.9
    left = (x - (1 - t)[:, None, None, None] * x0) / t[:, None, None, None]
    assert float(left.std()) == pytest.approx(1, abs=0.02)


def test_it_says_nothing_of_the_image():
    objective = Classification(Flow(), Uniform())
    assert objective.outputs == 0
    with pytest.raises(ValueError, match=r"A classifier predicts no image. Use it for guidance=classifier"):
        objective.denoised(torch.zeros(1, 2), torch.zeros(1, 1, 2, 2), torch.ones(1))

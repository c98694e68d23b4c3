"""The discriminator: its losses, when it speaks, and how its share is balanced."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dit_exp.discriminator.none import NoDiscriminator
from dit_exp.discriminator.patch import PatchDiscriminator, balanced, patch_network
from dit_exp.nn.count import count_parameters

KEYS = {"start": 0, "width": 4, "layers": 1, "adaptive": False, "lr": 1e-2}


def judge(**keys) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(**(KEYS | keys))


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_pix2pix_s_network_of_2_769_million_parameters_and_30x30_patches_of_256():
    network = patch_network(64, 3)
    pairs_of_images = 3 * 64 * 4 * 4  # pix2pix shows it six channels
    assert count_parameters(network) + pairs_of_images == 2_768_705
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


def test_the_penalty_is_the_squared_distance_from_1_and_its_gradient_is_not_the_judge_s():
    one = judge(weight=0.5)
    made = pictures(0).requires_grad_()
    penalty = one.penalty(made, torch.zeros(4), torch.zeros(1), step=0)
    expected = 0.5 * (one.network(made) - 1).square().flatten(1).mean(1)
    torch.testing.assert_close(penalty, expected)
    penalty.sum().backward()
    assert made.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in one.network.parameters())


def test_it_is_silent_and_learns_nothing_before_its_start():
    one = judge(start=3)
    before = {key: value.clone() for key, value in one.network.state_dict().items()}
    assert torch.equal(one.penalty(pictures(0), torch.ones(4), torch.zeros(1), step=2), torch.zeros(4))
    one.learn([(pictures(0), pictures(1))], step=2)
    assert all(torch.equal(value, before[key]) for key, value in one.network.state_dict().items())
    assert (one.penalty(pictures(0), torch.ones(4), torch.zeros(1), step=3) > 0).all()
    one.learn([(pictures(0), pictures(1))], step=3)
    assert not torch.equal(one.network[0].weight, before["0.weight"])


def test_it_learns_to_tell_images_from_reconstructions():
    one = judge(lr=1e-2)
    for step in range(30):
        one.learn([(pictures(step) * 0.5 + 0.5, pictures(step + 100) * 0.5 - 0.5)], step)
    with torch.no_grad():
        real, made = one.network(pictures(200) * 0.5 + 0.5), one.network(pictures(201) * 0.5 - 0.5)
    assert float(real.mean()) > 0.8
    assert float(made.mean()) < 0.2


def test_the_balance_is_the_ratio_of_gradients_at_the_last_layer():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    x = torch.tensor([1.0, 1.0])
    rest, share = (weight * x).sum() * 10, (weight * x).sum() * 2
    ratio = balanced(rest, share, weight)
    assert float(ratio) == pytest.approx(10 * 2**0.5 / (2 * 2**0.5 + 1e-4), rel=1e-6)
    assert not ratio.requires_grad
    assert float(balanced(rest * 1e9, share, weight)) == 1e4


def test_an_adaptive_share_pulls_at_the_last_layer_as_much_as_the_rest_does():
    one = judge(adaptive=True, weight=0.5)
    last = nn.Conv2d(3, 3, 1)
    made, image = last(pictures(0)), pictures(1)
    rest = (made - image).square().flatten(1).mean(1)
    share = one.penalty(made, rest, last.weight, step=0)
    norms = [torch.autograd.grad(x.mean(), last.weight, retain_graph=True)[0].norm() for x in (rest, share)]
    assert float(norms[1] / norms[0]) == pytest.approx(0.5, rel=0.05)


def test_weights_and_optimizer_come_back_from_the_state():
    one, other = judge(), judge(lr=1e-2)
    for step in range(3):
        one.learn([(pictures(step), pictures(step + 10))], step)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for both in (one, other):
        both.learn([(pictures(5), pictures(6))], 3)
    for key, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[key])


def test_two_pieces_make_the_mean_of_their_gradients():
    one = judge()
    grads = []
    for pieces in ([(pictures(0), pictures(1))], [(pictures(2), pictures(3))]):
        alone = judge()
        alone.optimizer.step = lambda: None  # type: ignore[method-assign]
        alone.optimizer.zero_grad = lambda: None  # type: ignore[method-assign]
        alone.learn(pieces, 0)
        grads.append(alone.network[0].weight.grad.clone())
    one.optimizer.step = lambda: None  # type: ignore[method-assign]
    one.optimizer.zero_grad = lambda: None  # type: ignore[method-assign]
    one.learn([(pictures(0), pictures(1)), (pictures(2), pictures(3))], 0)
    torch.testing.assert_close(one.network[0].weight.grad, (grads[0] + grads[1]) / 2)


def test_none_asks_nothing():
    none = NoDiscriminator()
    none.learn([(pictures(0), pictures(1))], 0)
    assert torch.equal(none.penalty(pictures(0), torch.ones(4), torch.zeros(1), 9), torch.zeros(4))
    assert none.state_dict() == {}

"""Importance sampling: unbiased, exact in its bookkeeping, the same on every rank and after a resume."""

from __future__ import annotations

import pytest
import torch

from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.timesteps.importance import Importance

CPU = torch.device("cpu")


def taught(bins: int = 10, history: int = 10) -> Importance:
    """Every bin b has seen losses of size b + 1."""
    timesteps = Importance(bins=bins, history=history)
    place = torch.arange(bins).repeat(history)
    timesteps.update(place, (place + 1).float())
    return timesteps


def test_draws_are_uniform_until_every_bin_has_its_history():
    timesteps = Importance(bins=4, history=3)
    timesteps.update(torch.tensor([0, 1, 2] * 3 + [3, 3]), torch.linspace(1, 9, 11))
    assert timesteps.probabilities().tolist() == [0.25] * 4
    assert (timesteps(Flow(), 100, CPU).weight == 1).all()
    timesteps.update(torch.tensor([3]), torch.tensor([1.0]))
    assert timesteps.probabilities().tolist() != [0.25] * 4


def test_probabilities_are_the_root_of_the_second_moment_mixed_with_a_uniform_share():
    timesteps = Importance(bins=3, history=2, uniform=0.1)
    timesteps.update(torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1.0, 7.0, 3.0, 3.0, 0.0, 0.0]))
    size = torch.tensor([5.0, 3.0, 0.0])  # sqrt((1 + 49) / 2), 3 and 0
    torch.testing.assert_close(timesteps.probabilities(), 0.9 * size / 8 + 0.1 / 3)


def test_a_bin_keeps_its_last_losses_also_when_one_batch_brings_more():
    timesteps, peer = Importance(bins=3, history=4), [[], [], []]
    g = torch.Generator().manual_seed(0)
    for n in (1, 5, 40, 2, 17):
        place = torch.randint(0, 3, (n,), generator=g)
        loss = torch.rand(n, generator=g)
        timesteps.update(place, loss)
        for b, value in zip(place.tolist(), loss.tolist(), strict=True):
            peer[b].append(value)
    assert timesteps.seen.tolist() == [len(values) for values in peer]
    for kept, values in zip(timesteps.losses.tolist(), peer, strict=True):
        assert sorted(kept) == pytest.approx(sorted(values[-4:]))


def test_the_weighted_mean_is_unbiased_and_varies_less():
    def loss(t):
        return (10 * t).ceil() + (20 * t).sin()  # also varies within a bin

    torch.manual_seed(0)
    n = 200_000
    place, t, weight = taught()(Flow(), n, CPU)
    every = torch.linspace(0.5 / n, 1 - 0.5 / n, n)
    estimates = weight * loss(t)
    error = 4 * float(estimates.std()) / n**0.5
    assert float(estimates.mean()) == pytest.approx(float(loss(every).mean()), abs=error)
    assert float(weight.mean()) == pytest.approx(1, abs=0.02)
    assert float(estimates.var()) < 0.5 * float(loss(every).var())
    assert float((place == 9).double().mean()) == pytest.approx(10 / 55, abs=0.005)


def test_bins_are_the_steps_of_a_process_with_as_many():
    process = Linear()
    torch.manual_seed(0)
    place, t, _ = Importance()(process, 5000, CPU)
    assert float((process.network_time(t) == place).double().mean()) > 0.999


def test_ranks_that_see_the_same_losses_draw_from_the_same_distribution_and_a_resumed_run_too():
    a, b = taught(), taught()
    place, loss = torch.randint(0, 10, (64,)), torch.rand(64)
    a.update(place, loss)
    b.update(place, loss)
    assert torch.equal(a.probabilities(), b.probabilities())
    resumed = Importance(bins=10)
    resumed.load_state_dict(a.state_dict())
    assert torch.equal(resumed.probabilities(), a.probabilities())
    a.update(place, 2 * loss)
    resumed.update(place, 2 * loss)
    assert torch.equal(resumed.losses, a.losses)

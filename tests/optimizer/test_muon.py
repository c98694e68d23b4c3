"""Which weights Muon takes, what its step is, and that a checkpoint brings it back."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import NETWORKS, images, network, randomized
from torch import Tensor, nn

from dit_exp.optimizer.adamw import adamw
from dit_exp.optimizer.muon import Muon, is_hidden


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Steps whose gradients are drawn from the step's number."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def muons(model: nn.Module) -> set[str]:
    """The weights of which Muon keeps a momentum and AdamW no second moment, after a step."""
    optimizer = Muon(model.named_parameters())
    stepped(model, optimizer, range(1))
    kept = {name: set(optimizer.state[p]) for name, p in model.named_parameters()}
    assert all(keys in ({"momentum_buffer"}, {"step", "exp_avg", "exp_avg_sq"}) for keys in kept.values())
    return {name for name, keys in kept.items() if keys == {"momentum_buffer"}}


def test_muon_takes_the_four_matrices_of_each_block_and_nothing_else():
    matrices = ("attn.qkv", "attn.out", "mlp.inner", "mlp.outer")
    assert muons(network("dit")) == {f"blocks.{i}.{name}.weight" for i in range(4) for name in matrices}


@pytest.mark.parametrize("name", NETWORKS)
def test_in_every_network_what_meets_images_times_and_labels_is_left_to_adamw(name: str):
    model = network(name)
    hidden = {key for key, p in model.named_parameters() if is_hidden(key, p)}
    assert hidden
    for key in hidden:
        assert not {"patch", "time", "label", "head", "cond", "position", "table"} & set(key.split(".")), key


def test_the_step_of_a_matrix_is_orthogonal_and_as_large_as_adamws():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(96, 64))
    weight.grad = torch.randn(96, 64) @ torch.diag(torch.logspace(0, -2, 64))
    Muon([("mlp.inner.weight", weight)], lr=1e-2).step()
    values = torch.linalg.svdvals(weight.detach())
    # Newton-Schulz brings singular values between about 0.7 and 1.2; the gradient's span two decades
    assert float(values.max() / values.min()) < 2.2
    # 64 singular values of 1 make a root mean square of 1 / sqrt(96), which sqrt(96) times 0.2 undoes
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 1e-2, rel=0.2)


def test_what_is_not_hidden_steps_as_with_adamw():
    ours, theirs = network("dit"), network("dit")
    stepped(ours, Muon(ours.named_parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1), range(3))
    stepped(theirs, adamw(theirs.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1), range(3))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) != is_hidden(name, a), name


def test_a_changed_learning_rate_reaches_both_parts():
    model = network("dit")
    before = copy.deepcopy(model.state_dict())
    optimizer = Muon(model.named_parameters(), lr=1e-3)
    optimizer.param_groups[0]["lr"] = 0.0
    stepped(model, optimizer, range(1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loaded_state_goes_on_bit_for_bit():
    whole = randomized(network("dit"))
    broken = copy.deepcopy(whole)
    optimizer = Muon(whole.named_parameters())
    stepped(whole, optimizer, range(3))

    first = Muon(broken.named_parameters())
    stepped(broken, first, range(3))
    saved: dict = copy.deepcopy(first.state_dict())
    assert sorted(saved["state"]) == list(
        range(len(list(broken.parameters())))
    )  # numbered as the model's are
    second = Muon(broken.named_parameters())
    second.load_state_dict(saved)
    for one in (optimizer, second):  # as a warm-up does, also after loading
        one.param_groups[0]["lr"] = 3e-4
    stepped(whole, optimizer, range(3, 5))
    stepped(broken, second, range(3, 5))
    for a, b in zip(whole.parameters(), broken.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_network_learns_with_it():
    model, x, y = network("dit"), images(count=4), torch.tensor([0, 1, 2, 3])
    optimizer = Muon(model.named_parameters(), lr=3e-3)

    def loss() -> Tensor:
        return (model(x, torch.full((4,), 500.0), y) - x).square().mean()

    first = loss().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.7 * first


def test_matrices_without_names_are_refused():
    with pytest.raises(ValueError, match=r"optimizer=muon needs the parameters' names"):
        Muon([nn.Parameter(torch.zeros(2, 2))])

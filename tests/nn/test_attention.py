"""Attention's own products give the answer and the gradients of torch's kernel."""

from __future__ import annotations

import functools
from unittest import mock

import pytest
import torch
from networks import images, network, randomized
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dit_exp.attn.gqa import GroupedQueryAttention
from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.nn.attention import SHORT, Short, attention

SHAPES = {
    "every head its own": (6, 6, 64, 64),
    "two key/value heads": (8, 2, 65, 65),
    "to a sequence of two": (4, 4, 20, 2),
}


def heads(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Query, key and value, laid out as a product of all three leaves them, and a gradient of the answer."""
    q_heads, kv_heads, rows, columns = shape
    g = torch.Generator().manual_seed(0)
    sizes = ((rows, q_heads), (columns, kv_heads), (columns, kv_heads), (rows, q_heads))
    made = (2 * torch.randn(3, n, h, 16, generator=g) for n, h in sizes)
    return tuple(x.transpose(1, 2).to(dtype) for x in made)


def gradients(function, q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    return torch.autograd.grad(function(*leaves), leaves, grad)


def torchs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, enable_gqa=True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_in_float32_it_is_that_of_torch(shape: tuple[int, int, int, int]):
    given = heads(shape, torch.float32)
    torch.testing.assert_close(Short.apply(*given[:3]), torchs(*given[:3]), rtol=1e-4, atol=1e-5)
    for own, expected in zip(gradients(Short.apply, *given), gradients(torchs, *given), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_in_bfloat16_it_errs_no_more_than_that_of_torch(shape: tuple[int, int, int, int]):
    given = heads(shape, torch.bfloat16)
    exact = gradients(torchs, *(x.double() for x in given))
    for own, theirs, true in zip(gradients(attention, *given), gradients(torchs, *given), exact, strict=True):
        assert own.dtype == torch.bfloat16
        error, bound = ((x.double() - true).norm() / true.norm() for x in (own, theirs))
        assert error < 0.004  # half of bfloat16's last place
        assert error <= 1.01 * bound


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_in_bfloat16_the_answer_errs_by_less_than_half_of_its_last_place(shape: tuple[int, int, int, int]):
    q, k, v, _ = heads(shape, torch.bfloat16)
    with torch.no_grad():
        answer, exact = attention(q, k, v), torchs(*(x.double() for x in (q, k, v)))
    assert not torch.equal(answer, torchs(q, k, v))
    assert answer.dtype == torch.bfloat16
    assert (answer - exact).norm() / exact.norm() < 2**-8


def test_autocast_leaves_the_products_that_weigh_tokens_in_float32():
    """Queries and keys whose products need more than bfloat16's eight bits."""
    q, k = (torch.full((1, 1, 1, 16), 1.0, dtype=torch.bfloat16) for _ in range(2))
    k = torch.cat([64 * k, 64.25 * k], dim=2)
    v = torch.tensor([0.0, 1.0], dtype=torch.bfloat16).view(1, 1, 2, 1).expand(1, 1, 2, 16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention(q, k, v), torchs(q, k, v))


def test_only_short_sequences_in_bfloat16_take_it():
    def taken(tokens: int, dtype: torch.dtype) -> bool:
        q, k, v, _ = heads((2, 2, tokens, tokens), dtype)
        answer = attention(q.requires_grad_(), k, v)
        assert answer.grad_fn is not None
        return "Short" in answer.grad_fn.name()

    assert taken(SHORT, torch.bfloat16)
    assert not taken(SHORT + 1, torch.bfloat16)
    assert not taken(8, torch.float32)


@pytest.mark.parametrize("attn", [MultiHeadAttention, functools.partial(GroupedQueryAttention, kv_heads=2)])
def test_recomputed_blocks_have_the_same_gradients_under_autocast(attn):
    """Through a whole model: the backward pass is outside autocast, as in training."""

    def gradients_of(remat: bool) -> list[Tensor]:
        model = randomized(network("dit", attn=attn, remat=remat)).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            said = model(images(), torch.tensor([900.0, 300.0]), torch.tensor([1, 7]))
        said.float().square().mean().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    with mock.patch.object(Short, "backward", wraps=Short.backward) as backward:
        plain = gradients_of(remat=False)
    assert backward.call_count == 4
    for one, other in zip(plain, gradients_of(remat=True), strict=True):
        assert torch.equal(one, other)


def test_second_derivatives_are_refused_and_not_wrong():
    q, k, v = (torch.randn(1, 2, 4, 8, requires_grad=True) for _ in range(3))
    [grad] = torch.autograd.grad(Short.apply(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_of_an_empty_batch_it_is_empty():
    q, k, v, grad = (x[:0] for x in heads((4, 2, 16, 16), torch.bfloat16))
    assert [x.shape for x in gradients(attention, q, k, v, grad)] == [q.shape, k.shape, v.shape]


def test_compiled_it_gives_the_same():
    given = heads((4, 2, 16, 16), torch.bfloat16)
    fast = torch.compile(attention, backend="aot_eager", fullgraph=True)
    for own, expected in zip(gradients(fast, *given), gradients(attention, *given), strict=True):
        assert torch.equal(own, expected)
    with torch.no_grad():
        assert torch.equal(fast(*given[:3]), attention(*given[:3]))

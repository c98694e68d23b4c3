"""Linear layers by oneDNN give torch's answers and gradients."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from networks import images, network, randomized
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.flop_counter import FlopCounterMode

from dit_exp.nn import linear
from dit_exp.nn.linear import FEW, Linear

BFLOAT16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16"
)


@pytest.fixture(autouse=True)
def even_few(monkeypatch: pytest.MonkeyPatch):
    """Products as small as these are left to torch otherwise."""
    monkeypatch.setattr(linear, "FEW", 1)


def both(bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    own, torchs = Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
    torchs.load_state_dict(own.state_dict())
    return own, torchs


def passes(layer, module: nn.Module, x: Tensor) -> list[Tensor]:
    """The answer and the gradients of the input and of all parameters."""
    x = x.clone().requires_grad_()
    answer = layer(x)
    return [answer, *torch.autograd.grad(answer.square().sum(), [x, *module.parameters()])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (3, 7, 24), (2, 3, 4, 24)])
def test_answer_and_gradients_are_those_of_torch(shape: tuple[int, ...], bias: bool):
    own, torchs = both(bias)
    x = torch.randn(shape)
    for said, expected in zip(passes(own, own, x), passes(torchs, torchs, x), strict=True):
        torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-5)


def test_so_are_those_of_an_input_that_lies_across():
    own, torchs = both()
    x = torch.randn(24, 6).t()
    torch.testing.assert_close(own(x), torchs(x), rtol=1e-5, atol=1e-5)


def test_compiled_it_gives_the_same():
    own, _ = both()
    x = torch.randn(3, 7, 24)
    fast = torch.compile(own, backend="aot_eager", fullgraph=True)
    for said, expected in zip(passes(fast, own, x), passes(own, own, x), strict=True):
        torch.testing.assert_close(said, expected, rtol=1e-6, atol=1e-6)


def test_its_operators_keep_to_what_torch_asks_of_one():
    x, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((3, 7, 24), (40, 24), (40,)))
    torch.library.opcheck(torch.ops.dit_exp.product.default, (x, weight, bias))
    torch.library.opcheck(torch.ops.dit_exp.product.default, (x, weight, None))
    held = (x.detach(), weight.detach(), bias.detach())
    torch.library.opcheck(torch.ops.dit_exp.product_gelu.default, held)


@BFLOAT16
def test_so_does_that_of_what_is_packed():
    held = [torch.randn(shape, dtype=torch.bfloat16) for shape in ((3, 7, 24), (40, 24), (40,))]
    torch.library.opcheck(torch.ops.dit_exp.packed_product.default, held)


def test_what_is_frozen_gets_no_gradient():
    own, _ = both()
    own.weight.requires_grad_(False)
    x = torch.randn(3, 24)
    own(x).sum().backward()
    assert own.weight.grad is None
    assert own.bias.grad is not None
    torch.testing.assert_close(own.bias.grad, torch.full((40,), 3.0))


def test_with_gelu_in_float32_it_is_the_same_function():
    own, torchs = both()
    x = torch.randn(5, 24)
    with torch.no_grad():
        answer = own.gelu(x)
        assert answer is not None
        torch.testing.assert_close(answer, gelu(torchs(x), approximate="tanh"), rtol=1e-5, atol=1e-5)


def test_where_a_gradient_is_wanted_gelu_is_not_done_in_one_pass():
    own, _ = both()
    assert own.gelu(torch.randn(5, 24)) is None


def test_other_precisions_and_empty_batches_are_left_to_torch():
    own, torchs = both()
    x = torch.randn(5, 24)
    assert own.product_dtype(x) == torch.float32
    assert own.product_dtype(x.double()) is None
    assert own.product_dtype(x.bfloat16()) is None  # the weight is float32, which torch refuses
    assert own.product_dtype(x[:0]) is None
    assert own.product_dtype(x.to("meta")) is None
    assert own(x[:0]).shape == (0, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(own(x), torchs(x))
    wide = copy.deepcopy(own).double()
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            said = wide(x.double())
            assert said.dtype == torch.float64
            assert torch.equal(said, copy.deepcopy(torchs).double()(x.double()))


def test_so_are_few_operations(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linear, "FEW", FEW)
    layer = Linear(1024, 256)
    assert layer.product_dtype(torch.randn(4, 1024)) == torch.float32
    assert layer.product_dtype(torch.randn(3, 1024)) is None


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("half", [False, pytest.param(True, marks=BFLOAT16)])
def test_its_operations_are_counted(grad: bool, half: bool):
    own, _ = both()
    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16, enabled=half):
        own(torch.randn(3, 7, 24))
        own.gelu(torch.randn(3, 7, 24))
    assert counter.get_total_flops() == (1 if grad else 2) * 2 * 3 * 7 * 24 * 40


@BFLOAT16
def test_compiled_in_bfloat16_a_bias_is_added_to_a_product_without_one():
    own, torchs = both()
    asked = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        asked.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    x = torch.randn(3, 7, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = passes(torch.compile(own, backend=backend, fullgraph=True), own, x)
        expected = passes(torchs, torchs, x)
    assert not any("linear" in target for target in asked)
    assert [value.dtype for value in said] == [value.dtype for value in expected]
    for mine, theirs in zip(said, expected, strict=True):
        assert (mine - theirs).float().norm() <= 2**-8 * theirs.float().norm()


@BFLOAT16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("x", [torch.randn(3, 7, 24), torch.randn(24, 6).t(), torch.randn(5, 48)[:, ::2]])
def test_packed_it_says_the_same_in_bfloat16(bias: bool, x: Tensor):
    own, torchs = both(bias)
    packed = own.to(torch.bfloat16)
    packed.pack()
    compiled = torch.compile(packed, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = torchs(x)
        for said in (packed(x), compiled(x)):
            torch.testing.assert_close(said, expected, rtol=2**-7, atol=2**-8)
        other = torch.ops.mkldnn._reorder_linear_weight(torch.zeros_like(packed.weight))
        setattr(packed.weight, linear.PACKED, other)
        nothing = 0 if packed.bias is None else packed.bias
        for said in (packed(x), compiled(x)):  # it is the packed weight that is read
            assert torch.equal(said, torch.zeros_like(said) + nothing)
        assert packed.gelu(x).flatten(0, -2).std(0).max() == 0


@BFLOAT16
def test_packed_gelu_says_the_same_in_bfloat16():
    own, _ = both()
    x = torch.randn(5, 24)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = own.gelu(x)
        packed = own.to(torch.bfloat16)
        packed.pack()
        torch.testing.assert_close(packed.gelu(x), expected, rtol=2**-7, atol=2**-8)


@BFLOAT16
def test_packed_it_has_torchs_gradient_of_its_input_and_its_operations_are_counted():
    own, torchs = both()
    packed = own.to(torch.bfloat16)
    packed.pack()
    x = torch.randn(3, 7, 24, dtype=torch.bfloat16, requires_grad=True)
    said, expected = packed(x), torchs.to(torch.bfloat16)(x)
    assert torch.equal(said, expected)
    grads = (torch.autograd.grad(answer.sum(), x)[0] for answer in (said, expected))
    assert torch.equal(*grads)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        packed(x)
    assert counter.get_total_flops() == 2 * 3 * 7 * 24 * 40


def test_float32_is_not_packed():
    own, _ = both()
    own.pack()
    assert not hasattr(own.weight, linear.PACKED)


def test_a_network_has_the_gradients_of_torchs_layers():
    model = randomized(network("dit"))

    def gradients() -> list[Tensor]:
        said = model(images(), torch.tensor([900.0, 300.0]), torch.tensor([1, 7]))
        return list(torch.autograd.grad(said.square().mean(), list(model.parameters())))

    own = gradients()
    with mock.patch.object(Linear, "product_dtype", return_value=None) as asked:
        torchs = gradients()
    assert asked.call_count > 10
    for mine, theirs in zip(own, torchs, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm() + 1e-9


def test_where_onednn_is_switched_off_torch_takes_the_products():
    layer, x = Linear(64, 64), torch.randn(FEW // 64**2 * 2, 64)
    assert layer.product_dtype(x) == torch.float32
    with torch.backends.mkldnn.flags(enabled=False):
        assert layer.product_dtype(x) is None

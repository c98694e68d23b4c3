"""What each faster form gives over those that were tried beside it, and that all compute the same.

Prints a markdown table: milliseconds of each form, and how many times as fast as that the form in use is. The
forms of one kind are taken in turn (benchmarks/paired.py). Measure on an idle machine.
Run: python -m benchmarks.alternatives [--rounds N] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention, silu

from benchmarks.paired import Job, Setting, interleaved, ratios
from benchmarks.peers import CLIP, EMA_DECAY, RATE, S4, TINY, ours
from benchmarks.rows.score import inception, statistics_of
from dit_exp.device import compiled
from dit_exp.ema import averaged
from dit_exp.metrics.folding import fold_batch_norms
from dit_exp.metrics.frechet import FrechetDistance
from dit_exp.nn.attention import attention
from dit_exp.nn.mlp import gelu
from dit_exp.optimizer.adamw import adamw


class Kind(NamedTuple):
    """Forms of one computation, the one in use first; each job returns what the others must return too."""

    what: str
    forms: dict[str, Job]
    tolerance: float


def filled(model: nn.Module) -> nn.Module:
    """A copy with a gradient for every parameter, the same in all copies."""
    model = copy.deepcopy(model)
    g = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=g)
    return model


def first(model: nn.Module) -> Tensor:
    return next(model.parameters()).detach().clone()


def optimizers(setting: Setting) -> Kind:
    base = ours(TINY if setting.quick else S4)

    def job(make: Callable[[nn.Module], torch.optim.Optimizer]) -> Job:
        model = filled(base)
        optimizer = make(model)

        def step() -> Tensor:
            optimizer.step()
            return first(model)

        return step

    plain = partial(torch.optim.AdamW, lr=RATE, weight_decay=0.0)
    return Kind(
        f"AdamW, {sum(p.numel() for p in base.parameters()) / 1e6:.1f} M parameters",
        {
            "fused": job(lambda model: adamw(model.parameters(), lr=RATE)),
            "foreach": job(lambda model: plain(model.parameters(), foreach=True)),
            "a loop, torch's default on a CPU": job(lambda model: plain(model.parameters(), foreach=False)),
        },
        1e-4,
    )


def averages(setting: Setting) -> Kind:
    model = ours(TINY if setting.quick else S4)
    new = [parameter.detach() + 1 for parameter in model.parameters()]
    kept = averaged(model, EMA_DECAY)
    kept.n_averaged += 100_000  # past the first updates, in which the decay grows
    looped = [parameter.detach().clone() for parameter in model.parameters()]
    flat, flat_new = (torch.cat([p.detach().flatten() for p in ps]) for ps in (model.parameters(), new))
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), new, strict=True):
            parameter.copy_(value)

    def foreach() -> Tensor:
        kept.update_parameters(model)
        return first(kept)

    def loop() -> Tensor:
        for held, value in zip(looped, new, strict=True):
            held.mul_(EMA_DECAY).add_(value, alpha=1 - EMA_DECAY)
        return looped[0].clone()

    def one_buffer() -> Tensor:
        flat.lerp_(flat_new, 1 - EMA_DECAY)
        return flat[: looped[0].numel()].view_as(looped[0]).clone()

    forms = {"one foreach lerp": foreach, "a loop": loop, "one flat buffer": one_buffer}
    return Kind("moving average of the same", forms, 1e-5)


def clips(setting: Setting) -> Kind:
    model = filled(ours(TINY if setting.quick else S4))
    parameters = [*model.parameters()]

    def clip(foreach: bool | None) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, CLIP * 1e9, foreach=foreach)

    forms = {"torch's choice": lambda: clip(None), "a loop": lambda: clip(False)}
    return Kind("norm of the same model's gradients", forms, 1e-4)


def modulations(setting: Setting) -> Kind:
    size, images = (TINY, 2) if setting.quick else (S4, 32)
    torch.manual_seed(0)
    blocks = [nn.Linear(size.width, 6 * size.width) for _ in range(size.depth)]
    weight, bias = (torch.cat([getattr(b, name) for b in blocks]) for name in ("weight", "bias"))
    c = torch.randn(images, 1, size.width)

    @torch.no_grad()
    def each() -> Tensor:
        return torch.cat([block(silu(c)) for block in blocks], dim=-1)

    @torch.no_grad()
    def together() -> Tensor:
        return nn.functional.linear(silu(c), weight, bias)

    what = f"modulation of {size.depth} blocks, {images} images"
    return Kind(what, {"a product for each block": each, "one product": together}, 1e-4)


def attentions(setting: Setting) -> Kind:
    """Both passes of one block, whose queries, keys and values come from one product."""
    size, images = (TINY, 2) if setting.quick else (S4, 16)
    tokens = (size.side // size.patch) ** 2
    g = torch.Generator().manual_seed(0)
    shape = (images, tokens, 3, size.heads, size.width // size.heads)
    together = torch.randn(shape, generator=g).bfloat16().requires_grad_()
    grad = torch.randn(images, size.heads, tokens, shape[-1], generator=g).bfloat16()

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q.float(), k.float(), v.float()
        return ((q.shape[-1] ** -0.5 * q @ k.mT).softmax(-1) @ v).bfloat16()

    def job(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Job:
        def passes() -> Tensor:
            q, k, v = together.permute(2, 0, 3, 1, 4)
            [found] = torch.autograd.grad(form(q, k, v), together, grad)
            return found.float().norm(dim=-1)  # single numbers of bfloat16 differ by what was rounded

        return passes

    forms = {
        "torch's, back by products in float32": job(attention),
        "torch's": job(scaled_dot_product_attention),
        "products in float32, which keep what they made": job(plain),
    }
    return Kind(f"attention of {images} images of {tokens} tokens, bf16, there and back", forms, 0.05)


def gelus(setting: Setting) -> Kind:
    """Both passes, compiled: eager ones both use torch's."""
    rows, columns = (2, 64) if setting.quick else (1024, 4 * S4.width)
    g = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(rows, columns, generator=g).bfloat16() for _ in range(2))
    x.requires_grad_()

    def job(form: Callable[[Tensor], Tensor]) -> Job:
        fast = compiled(form, True)

        def passes() -> Tensor:
            [found] = torch.autograd.grad(fast(x), x, grad)
            return found.float().norm(dim=-1)

        return passes

    forms = {"by a sigmoid": job(gelu), "torch's": job(partial(functional.gelu, approximate="tanh"))}
    return Kind(f"GELU of {rows} x {columns}, bf16, compiled, there and back", forms, 0.05)


def features(setting: Setting) -> Kind:
    plain = inception()
    folded = fold_batch_norms(copy.deepcopy(plain))
    last = copy.deepcopy(folded).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (setting.size(16, 1), 3, 32, 32), dtype=torch.uint8)

    def job(network: nn.Module) -> Job:
        return torch.inference_mode()(lambda: network(images)[0])

    forms = {"batch norms folded, channels last": job(last), "folded": job(folded), "as it is": job(plain)}
    return Kind(f"Inception features of {len(images)} images", forms, 1e-4)


def distances(setting: Setting) -> Kind:
    from scipy.linalg import sqrtm

    dims = setting.size(2048, 64)
    rng = np.random.default_rng(0)
    one, other = (statistics_of(dims, rng) for _ in range(2))
    kept = FrechetDistance(**one)
    apart, traces = one["mu"] - other["mu"], np.trace(one["sigma"]) + np.trace(other["sigma"])

    def distance(shared: Callable[[np.ndarray], float]) -> Tensor:
        return torch.tensor(float(apart @ apart + traces - 2 * shared(one["sigma"] @ other["sigma"])))

    forms: dict[str, Job] = {
        "eigenvalues of a symmetric matrix": lambda: torch.tensor(kept(**other)),
        "eigenvalues of the product": lambda: distance(
            lambda product: np.sqrt(np.linalg.eigvals(product).astype(complex)).real.sum()
        ),
        "square root of the product": lambda: distance(lambda product: np.trace(sqrtm(product)).real),
    }
    return Kind(f"Frechet distance of {dims} dimensions", forms, 1e-6)


KINDS = (optimizers, averages, clips, modulations, attentions, gelus, features, distances)


def rows(setting: Setting) -> Iterator[str]:
    """Lines of the table. Raises AssertionError where a form computes something else."""
    for make in KINDS:
        kind = make(setting)
        expected, *others = (job() for job in kind.forms.values())
        for other in others:
            torch.testing.assert_close(other, expected, rtol=kind.tolerance, atol=1e-6)
        times = interleaved(kind.forms, setting)
        used = next(iter(times))
        for form, taken in times.items():
            low, middle, high = ratios(taken, times[used])
            faster = "in use" if form == used else f"{middle:.2f} ({low:.2f} to {high:.2f})"
            yield f"| {kind.what} | {form} | {1000 * statistics.median(taken):,.1f} | {faster} |"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="rounds that count, after one that does not")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: the figures mean nothing")
    given = parser.parse_args(words)
    print("| what | form | ms | times the time of the form in use |\n|---|---|---|---|", flush=True)
    for line in rows(Setting(torch.device("cpu"), given.rounds, given.quick)):
        print(line, flush=True)


if __name__ == "__main__":
    main()

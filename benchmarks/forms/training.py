"""What a training step does with weights and gradients, and with the memory that it lets go of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.apart import Apart
from benchmarks.forms.kind import Kind
from benchmarks.paired import Job, Setting
from benchmarks.peers import CLIP, EMA_DECAY, RATE, S4, TINY, Size, batch_of, our_step, ours
from dit_exp.device import keep_freed_memory
from dit_exp.ema import averaged
from dit_exp.optimizer.adamw import adamw

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""torch's defaults, which ours are too."""


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


def updates(setting: Setting) -> Kind:
    """AdamW and its average as they are, and in one pass over memory, the fewest that there can be."""
    model = filled(ours(TINY if setting.quick else S4))
    other = filled(model)
    optimizer, kept = adamw(model.parameters(), lr=RATE), averaged(model, EMA_DECAY)
    kept.n_averaged += 100_000  # past the first updates, in which the decay grows

    def two_passes() -> Tensor:
        optimizer.step()
        kept.update_parameters(model)
        return first(kept)

    apart = [(p.detach(), p.grad) for p in other.parameters() if p.grad is not None]
    joined = [torch.cat([tensor.flatten() for tensor in tensors]) for tensors in zip(*apart, strict=True)]
    shape = first(other).shape
    forms = {
        "one after the other": two_passes,
        "one pass, compiled for each parameter": _one_pass(apart, shape),
        "one pass, compiled for a flat buffer": _one_pass([(joined[0], joined[1])], shape),
    }
    return Kind("AdamW and moving average of the same", forms, 1e-4)


def _one_pass(tensors: list[tuple[Tensor, Tensor]], shape: torch.Size) -> Job:
    """A step on weights with their gradients, compiled; returns the average of the first, of this shape."""
    held = [(w, g, torch.zeros_like(w), torch.zeros_like(w), w.clone()) for w, g in tensors]
    count = 0

    @torch.compile(dynamic=False)
    def passed(size: Tensor, root: Tensor) -> None:
        for weight, gradient, mean, square, average in held:
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            weight.sub_(size * mean / (square.sqrt() * root + EPSILON))
            average.lerp_(weight, 1 - EMA_DECAY)

    @torch.no_grad()
    def step() -> Tensor:
        nonlocal count
        count += 1
        # Made before: written into the pass, their powers would be taken anew for each weight.
        size, root = RATE / (1 - BETAS[0] ** count), (1 - BETAS[1] ** count) ** -0.5
        passed(torch.tensor(size), torch.tensor(root))
        return held[0][-1].flatten()[: shape.numel()].view(shape).clone()

    return step


def clips(setting: Setting) -> Kind:
    model = filled(ours(TINY if setting.quick else S4))
    parameters = [*model.parameters()]

    def clip(foreach: bool | None) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, CLIP * 1e9, foreach=foreach)

    forms = {"torch's choice": lambda: clip(None), "a loop": lambda: clip(False)}
    return Kind("norm of the same model's gradients", forms, 1e-4)


def steps_of_s4(setting: Setting) -> Kind:
    return _steps(setting, "S/4", S4, 32)


def steps_of_s2(setting: Setting) -> Kind:
    return _steps(setting, "S/2", S4._replace(patch=2), 16)


def _steps(setting: Setting, name: str, size: Size, images: int) -> Kind:
    """Each in a process of its own, since what the C library is told is for good."""
    size, images = (TINY, 2) if setting.quick else (size, images)
    keeping, returning = (Apart(step_of, size, images, keep) for keep in (True, False))

    def end() -> None:
        keeping.end()
        returning.end()

    forms = {"freed memory kept": keeping, "given back": returning}
    return Kind(f"training step of DiT-{name}, {images} images, bf16", forms, 1e-4, end)


def step_of(size: Size, images: int, keep: bool) -> Job:
    """A step of a new model; the job gives its loss. Raises AssertionError where memory cannot be kept."""
    assert not keep or keep_freed_memory()
    device = torch.device("cpu")
    step = our_step(ours(size), "bf16", False, batch_of(size, images, device), device)

    def job() -> float:
        torch.manual_seed(0)
        losses, _ = step()
        return float(losses["loss"])

    return job

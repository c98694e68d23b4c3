"""Activations that a training step keeps for its backward pass, against diffusers' model.

In each mode beside the peer in the same mode, and twice beside its default, eager fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.apart import beside
from benchmarks.paired import Quartiles, Row, Setting, begin
from benchmarks.peers import CLASSES, S4, TINY, Size, check_same, ours, theirs
from dit_exp.device import compiled
from dit_exp.trainer.loop import autocast

IMAGES = 32
"""The batch of the row on training, whose compiled code is found again."""

MODES = {
    "fp32": ("fp32", False, False),
    "bf16": ("bf16", False, False),
    "compiled bf16": ("bf16", True, False),
    "bf16, recomputed": ("bf16", False, True),
}
"""Precision, whether compiled, whether blocks are recomputed in the backward pass."""

DEFAULT = "fp32"
REACH = {"compiled bf16": 0.54, "bf16, recomputed": 0.25}


def kept(run: Callable[[], Tensor], precision: str, device: torch.device) -> int:
    """Bytes that are allocated in a forward pass and not given back at its end, the output among them."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        with autocast(device, precision):
            alive = run()
        held = torch.cuda.memory_allocated(device) - before
        del alive
        return held
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.profiler.profile(activities=activities, profile_memory=True) as profile,
        autocast(device, precision),
    ):
        alive = run()
    del alive  # after the profile has ended
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


def of_weights(run: Callable[[], Tensor], network: nn.Module, precision: str, device: torch.device) -> int:
    """Bytes of weights that are kept in another precision for the backward pass: no batch makes them more.

    They are told by their shape, turned or not, which at these sizes no activation of IMAGES has.
    """
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    shapes = {tuple(sorted(p.shape)) for p in network.parameters()}
    found: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if tuple(sorted(saved.shape)) in shapes and storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved), autocast(device, precision):
        alive = run()
    del alive
    return sum(found.values())


def our_samples(size: Size, device: torch.device) -> dict[str, float]:
    """MiB of a sample's activations, by mode."""
    model, recomputing = ours(size).to(device), ours(size, remat=True).to(device)

    def one(precision: str, compile: bool, again: bool) -> float:
        network = recomputing if again else model
        return _a_sample(compiled(network.train(), compile), network, precision, size, device)

    return {mode: one(*how) for mode, how in MODES.items()}


def their_samples(size: Size, device: torch.device) -> Callable[[], dict[str, float]]:
    """A job that gives those of diffusers."""
    begin(device)
    peer, recomputing = (theirs(ours(size), size).to(device) for _ in range(2))
    recomputing.enable_gradient_checkpointing()  # type: ignore[operator]

    def one(precision: str, compile: bool, again: bool) -> float:
        network = recomputing if again else peer
        fast: Callable[..., Any] = compiled(network.train(), compile)

        def call(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            return fast(x, timestep=t, class_labels=y).sample

        return _a_sample(call, network, precision, size, device)

    return lambda: {mode: one(*how) for mode, how in MODES.items()}


def rows(setting: Setting) -> Iterator[Row]:
    size: Size = TINY if setting.quick else S4
    device = setting.device
    model = ours(size).to(device)
    check_same(model, theirs(model, size).to(device), size, device)
    with beside(device, their_samples, size, device) as other:
        other.ask()  # and so compiles while ours is compiled here
        mine = our_samples(size, device)
        peers = other.answer()
    for mode, mib in mine.items():
        yield _row(mode, mib, f"diffusers {mode}", peers[mode])
    for mode, reach in REACH.items():
        yield _row(mode, mine[mode], f"diffusers {DEFAULT}", peers[DEFAULT], reach)


def _a_sample(
    call: Callable[[Tensor, Tensor, Tensor], Tensor],
    network: nn.Module,
    precision: str,
    size: Size,
    device: torch.device,
) -> float:
    """MiB of a sample, without what is kept of weights."""
    x, t = torch.randn(IMAGES, *size.shape, device=device), torch.full((IMAGES,), 500.0, device=device)
    label = torch.arange(IMAGES, device=device) % CLASSES

    def run() -> Tensor:
        return call(x, t, label)

    own = of_weights(run, network, precision, device)  # and compiles
    return (kept(run, precision, device) - own) / IMAGES / 2**20


def _row(mode: str, mib: float, peer: str, peer_mib: float, reach: float | None = None) -> Row:
    work = f"activations of a sample, {mode}: {mib:.1f} MiB"
    share = Quartiles(*3 * [mib / peer_mib])
    return Smaller("memory", work, f"{peer}: {peer_mib:.1f} MiB", None, None, share, reach)


class Smaller(Row):
    """A row of which less is better."""

    @property
    def verdict(self) -> str:
        if self.reach is None:
            return ""
        return "falls short" if self.value.low > self.reach else "reached"

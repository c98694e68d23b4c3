"""Activations that a training step keeps for its backward pass, against diffusers' model.

In each mode beside the peer in the same mode, and twice beside its default, eager fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.paired import Quartiles, Row, Setting
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


def rows(setting: Setting) -> Iterator[Row]:
    size: Size = TINY if setting.quick else S4
    device = setting.device
    model = ours(size).to(device)
    peer = theirs(model, size).to(device)
    check_same(model, peer, size, device)
    recomputing, peer_recomputing = ours(size, remat=True).to(device), theirs(model, size).to(device)
    peer_recomputing.enable_gradient_checkpointing()  # type: ignore[operator]

    def theirs_of(network: Callable[..., Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda x, t, y: network(x, timestep=t, class_labels=y).sample  # type: ignore[attr-defined]

    found: dict[str, tuple[float, float]] = {}
    for mode, (precision, compile, again) in MODES.items():
        mine, other = (recomputing, peer_recomputing) if again else (model, peer)
        found[mode] = (
            _a_sample(compiled(mine.train(), compile), mine, precision, size, device),
            _a_sample(theirs_of(compiled(other.train(), compile)), other, precision, size, device),
        )
    for mode, (mib, same) in found.items():
        yield _row(mode, mib, f"diffusers {mode}", same)
    for mode, reach in REACH.items():
        yield _row(mode, found[mode][0], f"diffusers {DEFAULT}", found[DEFAULT][1], reach)


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

"""Activations that a training step keeps for its backward pass, against diffusers' model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.paired import Quartiles, Row, Setting
from benchmarks.peers import CLASSES, S4, TINY, Size, check_same, ours, theirs
from dit_exp.device import compiled
from dit_exp.trainer.loop import autocast

IMAGES = 8
MODES = {
    "fp32": ("fp32", False, False),
    "bf16": ("bf16", False, False),
    "compiled bf16": ("bf16", True, False),
    "bf16, remat": ("bf16", False, True),
}
REACH = {"compiled bf16": 0.54, "bf16, remat": 0.25}


def kept(network: nn.Module, run: Callable[[], Tensor], precision: str, device: torch.device) -> int:
    """Bytes of the tensors that autograd holds at the end of a forward pass, weights left out.

    Each storage counts once. What autocast makes of the weights is held beside the activations and counts.
    """
    weights = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    held: dict[int, int] = {}
    alive: list[Tensor] = []  # an address counts once as long as nothing else is put there

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(device, precision):
        out = run()
    del out
    return sum(held.values())


def rows(setting: Setting) -> Iterator[Row]:
    size: Size = TINY if setting.quick else S4
    device = setting.device
    model = ours(size).to(device)
    peer = theirs(model, size).to(device)
    check_same(model, peer, size, device)
    recomputing = ours(size, remat=True).to(device)

    def a_sample(
        network: nn.Module, call: Callable[[Tensor, Tensor, Tensor], Tensor], precision: str
    ) -> float:
        """By the difference of two batches, so that what does not grow with the batch is left out."""

        def of(images: int) -> int:
            x, t = torch.randn(images, *size.shape, device=device), torch.full((images,), 500, device=device)
            label = torch.arange(images, device=device) % CLASSES
            return kept(network, lambda: call(x, t, label), precision, device)

        return (of(2 * IMAGES) - of(IMAGES)) / IMAGES

    peer.train()
    base = a_sample(peer, lambda x, t, y: peer(x, timestep=t, class_labels=y).sample, "fp32")
    for mode, (precision, compile, remat) in MODES.items():
        network = (recomputing if remat else model).train()
        mib = a_sample(network, compiled(network, compile), precision) / 2**20
        share = mib * 2**20 / base
        work = f"activations of a sample, {mode}: {mib:.1f} MiB"
        peer_mib = f"diffusers eager fp32: {base / 2**20:.1f} MiB"
        yield Smaller("memory", work, peer_mib, None, None, Quartiles(*3 * [share]), REACH.get(mode))


class Smaller(Row):
    """A row of which less is better."""

    @property
    def verdict(self) -> str:
        if self.reach is None:
            return ""
        return "falls short" if self.value.low > self.reach else "reached"

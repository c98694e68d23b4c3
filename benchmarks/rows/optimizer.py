"""A step of AdamW and moving average on DiT-S/4's parameters, against torch's defaults and a loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from benchmarks.paired import Row, Setting, compared, interleaved
from benchmarks.peers import EMA_DECAY, RATE, S4, TINY, ours
from dit_exp.ema import averaged
from dit_exp.nn.count import count_parameters
from dit_exp.optimizer.adamw import adamw

REACH = 5.0


def rows(setting: Setting) -> Iterator[Row]:
    model = ours(TINY if setting.quick else S4).to(setting.device)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    peer = copy.deepcopy(model)
    for theirs, mine in zip(peer.parameters(), model.parameters(), strict=True):
        theirs.grad = mine.grad

    fused, average = adamw(model.parameters(), lr=RATE), averaged(model, EMA_DECAY)
    default, copies = torch.optim.AdamW(peer.parameters(), lr=RATE, weight_decay=0.0), copy.deepcopy(peer)

    def step() -> None:
        fused.step()
        average.update_parameters(model)

    @torch.no_grad()
    def by_default() -> None:
        default.step()
        for held, new in zip(copies.parameters(), peer.parameters(), strict=True):
            held.mul_(EMA_DECAY).add_(new, alpha=1 - EMA_DECAY)

    times = interleaved({"ours": step, "AdamW by default, EMA by a loop": by_default}, setting)
    for a, b in zip(model.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    work = f"AdamW and EMA, {count_parameters(model) / 1e6:.1f} M parameters"
    yield compared(times, "ours", "AdamW by default, EMA by a loop", "optimizer", work, REACH)

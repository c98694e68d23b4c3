"""On a GPU: the share of its measured bf16 peak that training comes to, by size and mode of compilation."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.paired import Job, Row, Setting, interleaved, matmul, not_measured, shares
from benchmarks.peers import TINY, Size, batch_of, operations, our_step, ours

SIZES = {
    "S/2": (Size(12, 384, 6, 2), 512, 0.40),
    "B/2": (Size(12, 768, 12, 2), 256, 0.55),
    "XL/2, latents 32x32x4": (Size(28, 1152, 16, 2, channels=4), 64, 0.60),
}
MODES: tuple[str | bool, ...] = (False, "default", "reduce-overhead")


def rows(setting: Setting) -> Iterator[Row]:
    sizes = {"tiny": (TINY, 2, 0.0)} if setting.quick else SIZES
    if setting.device.type != "cuda" and not setting.quick:
        for name in sizes:
            yield not_measured("utilisation", f"DiT-{name}, bf16, needs a GPU")
        return
    for name, (size, images, reach) in sizes.items():
        model = ours(size).to(setting.device)
        batch = batch_of(size, images, setting.device)
        side = setting.size(8192, 64)
        work = 3 * operations(model, size, images)
        for mode in MODES[:1] if setting.quick else MODES:
            torch._dynamo.reset()  # it keeps eight forms of a function and runs a ninth as it is
            jobs: dict[str, Job] = {
                "step": our_step(model, "bf16", mode, batch, setting.device),
                "peak": matmul("bf16", setting.device, side),
            }
            times = interleaved(jobs, setting)
            value = shares(times["step"], work, times["peak"], 2 * side**3)
            label = f"DiT-{name}, {images} images, bf16, compile={mode}"
            against = f"matrix product of {side}"
            yield Row("utilisation", label, against, None, None, value, reach, figure="{:.1%}")

"""Fair comparisons: interleaved rounds, medians, quartiles, and the machine's own limit in the same rounds.

A single time wanders by 10 to 15 %. What is compared is taken in turn within a round, forwards in one and
backwards in the next; the first round is thrown away; a ratio is that of two times of one round. A row falls
short of its reach only if its upper quartile does.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dit_exp.device import keep_freed_memory
from dit_exp.nn.linear import by_onednn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

Job = Callable[[], Any]


@dataclass(frozen=True)
class Setting:
    """How to measure.

    rounds  that count, after one that does not
    quick   tiny sizes, to see that everything runs: the figures mean nothing
    run     a trained run for the row on sampling to a quality, or None
    ddt     a trained DDT for the row on encoder reuse, or None
    """

    device: torch.device
    rounds: int = 5
    quick: bool = False
    run: Path | None = None
    ddt: Path | None = None

    def size(self, full: int, tiny: int) -> int:
        return tiny if self.quick else full


class Quartiles(NamedTuple):
    low: float
    middle: float
    high: float


class Row(NamedTuple):
    """A line of the table.

    ours, peer  seconds, or None where a row compares no times
    value       how many times better than the peer, or what `figure` says
    reach       what it should come to, or None where nothing is asked
    share       of the machine's peak in the same precision, or None
    figure      what a value is where it is no ratio, with {} for the number
    """

    benchmark: str
    work: str
    peer: str
    ours_seconds: float | None
    peer_seconds: float | None
    value: Quartiles
    reach: float | None = None
    share: float | None = None
    figure: str = "{:.2f}x"

    @property
    def verdict(self) -> str:
        if self.reach is None:
            return ""
        return "falls short" if self.value.high < self.reach else "reached"


def not_measured(benchmark: str, work: str) -> Row:
    """A row that says what it would need."""
    return Row(benchmark, work, "", None, None, Quartiles(*3 * [math.nan]), figure="not measured")


def quartiles(values: Sequence[float]) -> Quartiles:
    """Lower quartile, median and upper quartile; of one value all three are that one."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def begin(device: torch.device) -> None:
    """What every process that runs or compiles networks begins with: on a CPU it keeps what it lets go of, as
    our runs do and peers beside them, nothing that should be compiled is run as it is, and convolutions of
    float32, of which peers and scores have some, are not rounded to TF32.
    """
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cpu":
        keep_freed_memory()


def done(device: torch.device) -> None:
    """Waits until all that this process has asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(job: Job, device: torch.device) -> float:
    """How long a job takes, until all that was asked of the device is done."""
    done(device)
    started = time.perf_counter()
    job()
    done(device)
    return time.perf_counter() - started


def interleaved(jobs: dict[str, Job], setting: Setting) -> dict[str, list[float]]:
    """Seconds of each job in each round that counts."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(setting.rounds + 1):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:
            taken = seconds(jobs[name], setting.device)
            if turn:
                times[name].append(taken)
    return times


def ratios(peer: Sequence[float], ours: Sequence[float]) -> Quartiles:
    """How many times faster, by round."""
    return quartiles([a / b for a, b in zip(peer, ours, strict=True)])


def compared(
    times: dict[str, list[float]],
    ours: str,
    peer: str,
    benchmark: str,
    work: str,
    reach: float | None = None,
    share: float | None = None,
) -> Row:
    """The row of two jobs of `interleaved`."""
    middles = (statistics.median(times[name]) for name in (ours, peer))
    return Row(benchmark, work, peer, *middles, ratios(times[peer], times[ours]), reach, share)


def matmul(precision: str, device: torch.device, side: int) -> Job:
    """A product of two square matrices, of 2 side^3 operations."""
    a, b = _matrices(precision, device, side)
    return lambda: a @ b


def laid_out_matmul(precision: str, device: torch.device, side: int) -> Job | None:
    """The same by oneDNN, the right matrix laid out before; None where there is no oneDNN for it.

    In float32 torch asks MKL, which has no code of its own for AMD's processors.
    """
    if device.type != "cpu" or PRECISIONS[precision] not in by_onednn():
        return None
    a, b = _matrices(precision, device, side)
    right = torch.ops.mkldnn._reorder_linear_weight(b.T.contiguous())
    return lambda: torch.ops.mkldnn._linear_pointwise(a, right, None, "none", [], "")


def _matrices(precision: str, device: torch.device, side: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=g).to(device, PRECISIONS[precision]) for _ in range(2))
    return a, b


def fastest(times: Sequence[Sequence[float]]) -> list[float]:
    """The least of several jobs' times in each round."""
    return [min(taken) for taken in zip(*times, strict=True)]


def shares(
    times: Sequence[float], operations: float, peak: Sequence[float], peak_operations: float
) -> Quartiles:
    """What share of the peak's operations a second a job comes to, by round."""
    return quartiles([operations / a / (peak_operations / b) for a, b in zip(times, peak, strict=True)])


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| benchmark | work | against | ours, ms | theirs, ms | median (quartiles) | reach | of peak | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = [f"{1000 * v:,.1f}" if v is not None else "" for v in (row.ours_seconds, row.peer_seconds)]
        low, middle, high = map(row.figure.format, row.value)
        reach = row.figure.format(row.reach) if row.reach is not None else ""
        share = f"{100 * row.share:.0f} %" if row.share is not None else ""
        value = middle if low == middle == high else f"{middle} ({low} to {high})"
        cells = [row.benchmark, row.work, row.peer, *times, value, reach, share, row.verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

"""What each faster form gives over those that were tried beside it, and that all compute the same.

Prints a markdown table: milliseconds of each form, and how many times as fast as that the form in use is. The
forms of one kind are taken in turn (benchmarks/paired.py). Measure on an idle machine.
Run: python -m benchmarks.alternatives [--rounds N] [--only KIND ...] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.command import positive, told
from benchmarks.forms import blocks, scores, training
from benchmarks.forms.kind import Kind
from benchmarks.paired import Setting, interleaved, ratios

KINDS = (
    training.optimizers, training.averages, training.updates, training.clips, training.steps_of_s4,
    training.steps_of_s2, blocks.modulations, blocks.attentions, blocks.answers, blocks.gelus,
    blocks.products, blocks.weights, blocks.linears, blocks.windows, scores.features, scores.distances,
)  # fmt: skip


def rows(setting: Setting, kinds: Sequence[Callable[[Setting], Kind]]) -> Iterator[str]:
    """Lines of the table. Raises AssertionError where a form computes something else."""
    for make in kinds:
        kind = make(setting)
        try:
            expected, *others = (job() for job in kind.forms.values())
            for other in others:
                torch.testing.assert_close(other, expected, rtol=kind.tolerance, atol=1e-6)
            times = interleaved(kind.forms, setting)
        finally:
            kind.end()
        used = next(iter(times))
        for form, taken in times.items():
            low, middle, high = ratios(taken, times[used])
            faster = "in use" if form == used else f"{middle:.2f} ({low:.2f} to {high:.2f})"
            yield f"| {kind.what} | {form} | {1000 * statistics.median(taken):,.1f} | {faster} |"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--rounds", type=positive, default=11, help="rounds that count, after one that does not"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: the figures mean nothing")
    named = {make.__name__: make for make in KINDS}
    parser.add_argument(
        "--only", nargs="+", choices=named, default=[*named], metavar="KIND", help=", ".join(named)
    )
    given = parser.parse_args(words)
    print("| what | form | ms | times the time of the form in use |\n|---|---|---|---|", flush=True)
    setting = Setting(torch.device("cpu"), given.rounds, given.quick)
    for line in rows(setting, [named[name] for name in given.only]):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(told(main))

"""All comparisons in one run: our time, the peer's, their ratio, and the share of the machine's own limit.

Run by `make bench`, or: python -m benchmarks --help
Measure on an idle machine. Each file in benchmarks/rows/ is a part of the table.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
import time
import traceback
from pathlib import Path

import torch

from benchmarks import rows as room
from benchmarks.command import positive, told
from benchmarks.paired import Row, Setting, begin, markdown
from benchmarks.trained import check_scored
from dit_exp.device import resolve_device
from dit_exp.errors import UserError

BEGIN, END = "<!-- the table of make bench DEVICE={device} -->", "<!-- its end -->"


def arguments(words: list[str] | None) -> argparse.Namespace:
    names = [module.name for module in pkgutil.iter_modules(room.__path__)]
    # Training first: its shares of the peak were higher alone than after other rows, if not taken by turns.
    # Memory last: what training has compiled is found again.
    names.sort(key=lambda name: (name != "training", name == "memory"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="ROW", help=", ".join(names)
    )
    parser.add_argument(
        "--rounds", type=positive, default=5, help="rounds that count, after one that does not"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--run", type=Path, help="a trained run, for the time that samples of its quality take"
    )
    parser.add_argument("--ddt", type=Path, help="a trained DDT, for what reusing its encoder gives")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that all runs; figures mean nothing"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table between its marks in a page"
    )
    return parser.parse_args(words)


def machine(device: torch.device) -> str:
    """What it was measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    load = os.getloadavg()[0]
    return (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}, load at the start {load:.1f}"
    )


def inserted(page: str, table: str, device: str) -> str:
    """The page with the device's table between its marks. Raises UserError for a page without them."""
    mark = BEGIN.format(device=device)
    before, begin, rest = page.partition(mark)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(
            f"--write: the page needs the lines {mark} and {END}, between which the table is put. "
            "Add them, or leave --write out, and the table is printed alone."
        )
    return f"{before}{mark}\n\n{table}\n\n{END}{after}"


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    setting = Setting(resolve_device(given.device), given.rounds, given.quick, given.run, given.ddt)
    for run in filter(None, (given.run, given.ddt)):
        check_scored(run)
    if given.write:
        inserted(_read(given.write), "", setting.device.type)
    begin(setting.device)
    started, found, failed = time.monotonic(), [], []
    where = machine(setting.device)
    for name in given.only:
        before = time.monotonic()
        torch._dynamo.reset()  # it keeps eight forms of a function and would run a ninth as it is
        try:
            for row in importlib.import_module(f"benchmarks.rows.{name}").rows(setting):
                found.append(row)
                print(markdown([row]).splitlines()[-1], file=sys.stderr, flush=True)
        except Exception:  # the other rows are worth having
            failed.append(name)
            traceback.print_exc()
        print(f"{name}: {time.monotonic() - before:.0f} s", file=sys.stderr, flush=True)
    table = _page(found, where, given.rounds, time.monotonic() - started, given.quick)
    print(table)
    if given.write and not failed:
        given.write.write_text(inserted(_read(given.write), table, setting.device.type))
    return 1 if failed else 0


def _read(page: Path) -> str:
    try:
        return page.read_text()
    except OSError as error:
        raise UserError(
            f"--write {page} cannot be read: {error.strerror}. Pass a page that is there."
        ) from error


def _page(found: list[Row], where: str, rounds: int, seconds: float, quick: bool) -> str:
    head = f"{rounds} rounds on {where}; {seconds / 60:.1f} minutes in all."
    warning = "Tiny sizes: these figures mean nothing.\n\n" if quick else ""
    return f"{warning}{head}\n\n{markdown(found)}"


if __name__ == "__main__":
    sys.exit(told(main))

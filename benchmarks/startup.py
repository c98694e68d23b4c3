"""Time to help and to an error message, as a ratio to an empty Hydra app in the same rounds.

Interleaved rounds, the first thrown away; medians and quartiles of the ratio within a round.
Run: python -m benchmarks.startup [rounds]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import PROJECT
from benchmarks.command import positive

EMPTY = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    pass

main()
"""
COMMANDS = {
    "--help": ["--help"],
    "model=dit_z": ["model=dit_z"],
    "model.depht=3": ["model.depht=3"],
    "model.width=big": ["model.width=big"],
}


def seconds(command: list[str], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "rounds", nargs="?", type=positive, default=11, help="that count, after one that does not"
    )
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty_app.py"
        empty.write_text(EMPTY)
        jobs = {"empty Hydra app --help": [str(empty), "--help"], "empty Hydra app": [str(empty)]}
        jobs |= {name: [str(PROJECT / "run.py"), *words] for name, words in COMMANDS.items()}
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for turn in range(rounds + 1):
            for name in list(jobs)[:: 1 if turn % 2 else -1]:
                taken = seconds([sys.executable, *jobs[name]], folder)
                if turn:
                    times[name].append(taken)
    print(f"{'command':24} {'median s':>9} {'ratio to an empty app: quartiles':>34}")
    for name, taken in times.items():
        base = times["empty Hydra app --help" if "help" in name else "empty Hydra app"]
        low, middle, high = statistics.quantiles([a / b for a, b in zip(taken, base, strict=True)], n=4)
        print(f"{name:24} {statistics.median(taken):9.3f} {low:14.2f} {middle:6.2f} {high:6.2f}")


if __name__ == "__main__":
    main()

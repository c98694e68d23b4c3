"""A trained run's score with every sampler at several numbers of network evaluations.

Prints a markdown table of the run's leading score; but for the sampler the protocol is the same in all cells.
Run: python -m benchmarks.sampler_scores RUN_DIR [KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import PROJECT
from benchmarks.command import told
from benchmarks.trained import parts_of

EVALUATIONS = (5, 9, 15, 25, 51)


def steps_for(sampler: str, evaluations: int) -> int:
    """The steps that make a number of evaluations."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = OmegaConf.load(PROJECT / "conf" / "sampler" / f"{sampler}.yaml")
    made = (instantiate(config, steps=n) for n in range(1, evaluations + 1))
    return next(one.steps for one in made if one.evaluations == evaluations)


def score_of(
    run: str, sampler: str, steps: int, overrides: list[str], folder: Path
) -> tuple[str, float, int]:
    """The leading score: its name with the count, its value and the evaluations it took."""
    from dit_exp.task.score import score

    parts = parts_of(Path(run), [f"sampler={sampler}", f"sampler.steps={steps}", *overrides], folder)
    parts.metrics.prepare(parts.data)
    assert parts.source is not None
    scores, protocol = score(parts, parts.model.eval(), 250, parts.source["step"], parts.metrics.num_samples)
    [(name, value), *_] = scores.items()
    return f"{name}, n={protocol['n']}", value, protocol["nfe"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="a run directory or a checkpoint file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for task=evaluate")
    given = parser.parse_intermixed_args()
    run, overrides = given.run, given.overrides
    samplers = sorted(path.stem for path in (PROJECT / "conf" / "sampler").glob("*.yaml"))
    rows: list[str] = []
    named = ""
    with tempfile.TemporaryDirectory() as folder:
        for sampler in samplers:
            cells = []
            for n in EVALUATIONS:
                steps = steps_for(sampler, n)
                named, value, spent = score_of(run, sampler, steps, overrides, Path(folder))
                assert spent == n
                cells.append(f"{value:.1f}")
            rows.append(f"| {sampler} | " + " | ".join(cells) + " |")
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{named}\n\n| sampler | " + " | ".join(map(str, EVALUATIONS)) + " |")
    print("|---|" + "---|" * len(EVALUATIONS))
    print("\n".join(rows))


if __name__ == "__main__":
    sys.exit(told(main))

"""Compose, check, build and run one task: `python run.py --help`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from dit_exp import cli
from dit_exp.help import help_text

PROJECT = Path(__file__).resolve().parent
os.environ.setdefault("DIT_EXP_HOME", str(PROJECT))
# For the processes of a sweep, which import the package wherever they are started.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(PROJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> object:
    # torch is imported after the configuration has been found good.
    from dit_exp.check import preflight

    preflight(cfg)
    from dit_exp.build import run

    return run(cfg)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(PROJECT), end="")
    else:
        sys.exit(cli.run(main))

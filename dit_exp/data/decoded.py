"""Where a data set is kept decoded, it is decoded by one process."""

from __future__ import annotations

from dit_exp import parallel
from dit_exp.types.data import DataSet


def decode_once(data: DataSet, split: str) -> None:
    """Returns when a split is decoded, where it is kept so: the main process does it, the others wait."""
    with parallel.main_first():
        next(data.examples(split, 1))

"""Encoded images of a split, read by number: files in class folders, or rows of parquet shards.

Both have `labels` (int64 (N,), all 0 without classes) and an `order` for an epoch that they can be read in
without going back and forth. `facts` tell two sets apart by names and sizes: the bytes of a million images
are not read for it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dit_exp.data import parquet
from dit_exp.errors import UserError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}

WINDOW = 4096
"""Images of a shuffle's window: so many are kept encoded, and whole row groups are shuffled among windows."""


class Encoded(Protocol):
    """`read` may be called by several threads."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def facts(self) -> str: ...

    def read(self, index: int) -> tuple[bytes, str]:
        """The encoded image of a number, and where it stands, for messages."""
        ...

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """All numbers, shuffled."""
        ...


class ClassFolders:
    """root/CLASS/**/*.png and so on; a class's label is its place among the sorted names of the folders.

    Without folders in it, the images of `root` itself, which have no classes. Files are listed when they are
    first asked for; raises UserError then for a folder without images.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())

    @cached_property
    def by_class(self) -> list[list[Path]]:
        return [_images(self.root / name) for name in self.names] or [_images(self.root)]

    @cached_property
    def paths(self) -> list[Path]:
        return [path for paths in self.by_class for path in paths]

    @property
    def labels(self) -> np.ndarray:
        return self._labels

    @cached_property
    def _labels(self) -> np.ndarray:
        counts = [len(paths) for paths in self.by_class]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    @property
    def facts(self) -> str:
        return "\n".join(f"{path.relative_to(self.root)} {path.stat().st_size}" for path in self.paths)

    def read(self, index: int) -> tuple[bytes, str]:
        path = self.paths[index]
        return path.read_bytes(), str(path)

    def order(self, draw: np.random.Generator) -> np.ndarray:
        return draw.permutation(len(self.paths))


def _images(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise UserError(
            f"{folder} holds no images (files ending in {', '.join(sorted(ENDINGS))}). Fill the folder or "
            "remove it from data.root."
        )
    return paths


class Shards:
    """Rows of parquet files. Row groups that were read last are kept encoded, two windows of them at most."""

    def __init__(self, files: list[Path], labelled: bool) -> None:
        import pyarrow.parquet as pq

        parquet.count(files)
        self.files, self.labelled = files, labelled
        self.labels = np.concatenate([parquet.labels(path, labelled) for path in files])
        self.groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for path in files:
            footer = pq.read_metadata(path)
            self.groups += [(path, group) for group in range(footer.num_row_groups)]
            sizes += [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        self.sizes, self.starts = sizes, [0, *accumulate(sizes)]
        self.facts = "\n".join(f"{path.name} {path.stat().st_size}" for path in files)
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._room, self._lock = 2 * max(WINDOW, *sizes), threading.Lock()

    def read(self, index: int) -> tuple[bytes, str]:
        group = bisect_right(self.starts, index) - 1
        path, number = self.groups[group]
        row = index - self.starts[group - number]  # the groups of a file stand together
        with self._lock:
            column = self._column(group)
        return column[index - self.starts[group]].as_py(), f"{path}, row {row}"

    def order(self, draw: np.random.Generator) -> np.ndarray:
        return np.concatenate([draw.permutation(window) for window in self._windows(draw)])

    def _windows(self, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """Row groups in a random order, some together that make a window."""
        gathered, size = [], 0
        for group in draw.permutation(len(self.groups)).tolist():
            gathered.append(np.arange(self.starts[group], self.starts[group + 1]))
            size += len(gathered[-1])
            if size >= WINDOW:
                yield np.concatenate(gathered)
                gathered, size = [], 0
        if gathered:
            yield np.concatenate(gathered)

    def _column(self, group: int) -> Any:
        """The encoded images of a row group."""
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        path, number = self.groups[group]
        self._kept[group] = parquet.encoded(path, number)
        while sum(self.sizes[kept] for kept in self._kept) > self._room:
            self._kept.popitem(last=False)
        return self._kept[group]

"""Images in parquet, in the layout in which data sets are published.

A column `img` or `image` of struct{bytes, path} holds encoded files; `label` or `fine_label`, where there are
classes, an integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dit_exp.errors import UserError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")


def folder(root: str | None, repo: str) -> Path:
    """`root`, or, where it is null, the hub's copy of `repo`. Raises UserError where there is none."""
    path = download(repo) if root is None else Path(root).expanduser()
    if not path.is_dir():
        raise UserError(
            f"data.root={root} is not a folder. Pass data.root=DIR that holds train-*.parquet, "
            "or use data=digits, which needs no files."
        )
    return path


def find(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split in `folder` or one level below. Raises UserError where there are none."""
    for pattern in (f"{split}-*.parquet", f"*/{split}-*.parquet"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise UserError(
        f"data.root={folder} has no {split}-*.parquet files. Pass data.root=DIR that holds "
        f"{split}-*.parquet, or use data=digits, which needs no files."
    )


def download(repo: str) -> Path:
    """A hub repository's parquet files, in the hub's cache. Raises UserError where it cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=["*.parquet"]))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"data.root is not set, and {repo} could not be fetched from the hub ({reason}). "
            "Pass data.root=DIR that holds its parquet files, or use data=digits, which needs no files."
        ) from error


def columns(path: Path, labelled: bool) -> tuple[str, str | None]:
    """The names of the image column and, if asked for, of the label column. Reads no rows.

    Raises UserError where a column is missing or the file is not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error
    types = {field.name: field.type for field in schema}
    image = next((name for name in IMAGE_COLUMNS if name in types), None)
    if image is None or not pa.types.is_struct(types[image]) or types[image].get_field_index("bytes") < 0:
        raise UserError(
            f"{path} has no image column: expected img or image, a struct of bytes and path; found "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items())}. "
            "Pass data.root=DIR of a data set in the published layout."
        )
    if not labelled:
        return image, None
    label = next((name for name in LABEL_COLUMNS if name in types), None)
    if label is None or not pa.types.is_integer(types[label]):
        raise UserError(
            f"{path} has no label column: expected label or fine_label, integers; found "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items())}. "
            "Pass data.root=DIR of a data set with classes."
        )
    return image, label


def count(files: list[Path]) -> int:
    """Rows of all files together. Raises UserError where there are none."""
    import pyarrow.parquet as pq

    for path in files:
        columns(path, labelled=False)
    total = sum(pq.read_metadata(path).num_rows for path in files)
    if total == 0:
        raise UserError(f"{files[0]} holds no images. Pass data.root=DIR of files that do.")
    return total


def rows(path: Path, labelled: bool) -> Iterator[tuple[int, bytes, int]]:
    """(row, encoded image, label) of a file; a label is 0 where none is asked for, -1 where it is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image, label = columns(path, labelled)
    row = 0
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(256, columns=[f"{image}.bytes", *([label] if label else [])])
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise _broken(path, error) from error
            if batch is None:
                return
            encoded = batch.column(image).field("bytes").to_pylist()
            labels = batch.column(label).fill_null(-1).to_pylist() if label else [0] * len(batch)
            for data, number in zip(encoded, labels, strict=True):
                yield row, data, number
                row += 1


def labels(path: Path, labelled: bool) -> np.ndarray:
    """The labels of a file, int64 (rows,): 0 where none are asked for, -1 where one is null.

    Raises UserError for a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, label = columns(path, labelled)
    if label is None:
        return np.zeros(pq.read_metadata(path).num_rows, np.int64)
    try:
        column = pq.read_table(path, columns=[label])[label]
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error
    return column.fill_null(-1).to_numpy().astype(np.int64)


def encoded(path: Path, group: int) -> Any:
    """The encoded images of a row group, as an array of bytes. Raises UserError for a damaged file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image, _ = columns(path, labelled=False)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=[f"{image}.bytes"])
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error
    return table[image].combine_chunks().field("bytes")


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a whole parquet file ({error}). Fetch it again, or take it out of data.root."
    )

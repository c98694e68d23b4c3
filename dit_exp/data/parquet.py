"""Images in parquet, in the layout in which data sets are published.

A column `img` or `image` of struct{bytes, path} holds encoded files; `label` an integer where there are classes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dit_exp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_COLUMNS = ("img", "image")


def find(root: str | None, repo: str, split: str) -> list[Path]:
    """The parquet files of a split below `root`, or, where it is null, below the hub's copy of `repo`."""
    folder = download(repo) if root is None else Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.root={root} is not a folder. Pass data.root=DIR that holds {split}-*.parquet.")
    for pattern in (f"{split}-*.parquet", f"*/{split}-*.parquet"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise UserError(
        f"data.root={folder} has no {split}-*.parquet files. Pass data.root=DIR that holds {split}-*.parquet, "
        "or use data=digits, which needs no files."
    )


def download(repo: str) -> Path:
    """The parquet files of a hub repository, in the hub's cache. Raises UserError where it cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=["*.parquet"]))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"data.root is not set, and {repo} could not be fetched from the hub ({reason}). "
            "Pass data.root=DIR that holds its parquet files, or use data=digits, which needs no files."
        ) from error


def image_column(path: Path) -> str:
    """The name of a file's image column. Raises UserError where there is none, or the file is not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is not a whole parquet file ({error}). Fetch it again, or take it out of data.root."
        ) from error
    for name in IMAGE_COLUMNS:
        if name in schema.names and pa.types.is_struct(schema.field(name).type):
            return name
    raise UserError(
        f"{path} has no image column: expected img or image, a struct of bytes and path; found "
        f"{', '.join(schema.names)}. Pass data.root=DIR of a data set in the published layout."
    )


def rows(path: Path, labelled: bool) -> Iterator[tuple[int, bytes, int]]:
    """(row, encoded image, label) of a file; the label is 0 where none is asked for."""
    import pyarrow.parquet as pq

    column = image_column(path)
    with pq.ParquetFile(path) as file:
        if labelled and "label" not in file.schema_arrow.names:
            raise UserError(f"{path} has no label column. Use a data set with classes, or data=celebahq.")
        row = 0
        for batch in file.iter_batches(256, columns=[f"{column}.bytes", *(["label"] if labelled else [])]):
            encoded = batch.column(0).field("bytes")
            labels = batch.column(1).to_pylist() if labelled else [0] * len(batch)
            for data, label in zip(encoded, labels, strict=True):
                yield row, data.as_py(), label
                row += 1


def decode(data: bytes, path: Path, row: int) -> Image:
    """One image as RGB. Raises UserError that names the file and row of an image that cannot be read."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}, row {row}: the image cannot be decoded ({error}). Fetch the file again or drop the row."
        ) from error

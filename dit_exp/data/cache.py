"""Decoded data sets as memory-mapped arrays, each built once.

A folder's name is the hash of the files' bytes and of the transform, so a changed file or size makes another
one. It is built beside its place and moved there whole: an interrupted build is never read.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dit_exp.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]


def content_hash(files: list[Path], transform: str, cache: Path) -> str:
    """16 hex digits of the files' bytes, in order, and the transform.

    A file's own hash is remembered under its path, size and time, and not computed again.
    """
    whole = hashlib.sha256(transform.encode())
    for path in files:
        stat = path.stat()
        key = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()
        known = cache / "hashes" / key
        if not known.exists():
            known.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            part = _beside(known)
            part.write_text(digest)
            part.replace(known)
        whole.update(known.read_bytes())
    return whole.hexdigest()[:16]


def arrays(cache: Path, key: str, build: Callable[[Path], None]) -> Arrays:
    """images.npy (mapped) and labels.npy of `key`; `build(folder)` writes them where they are missing."""
    folder = cache / "data" / key
    if not (folder / "images.npy").exists():
        part = _beside(folder)
        part.mkdir(parents=True)
        try:
            build(part)
            try:
                part.replace(folder)
            except OSError:
                # Another process has put its own, equal one there in the meantime.
                if not (folder / "images.npy").exists():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}")


def folder(cache: str) -> Path:
    """The cache folder, made if it is not there. Raises UserError where it cannot be written."""
    path = Path(cache).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"data.cache={cache} cannot be written ({error.strerror}). "
            "Pass data.cache=DIR or set DIT_EXP_CACHE."
        ) from error
    return path


def require_space(
    place: Path,
    size: int,
    what: str = "The decoded images",
    advice: str = "Pass data.cache=DIR on a larger disk, or lower data.image_size.",
) -> None:
    """Raises UserError where `size` bytes do not fit: a full disk kills a process that writes to a map."""
    free = shutil.disk_usage(place.parent).free
    if free < size:
        raise UserError(
            f"{what} take {size / 1e9:.2f} GB, and {place.parent} has {free / 1e9:.2f} GB left. {advice}"
        )

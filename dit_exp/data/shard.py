"""A shard of a cache of latents: a .npy file, checked before it is read and mapped without staying open.

numpy's and Python's maps hold a descriptor each, and the shards of a million images are more than the files
that a process may usually have open.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch

from dit_exp.errors import UserError

AGAIN = "Remove it and run its task=cache command again."


def data_offset(path: Path, shape: tuple[int, ...], dtype: str) -> int:
    """The bytes before a shard's numbers. Reads none of them.

    Raises UserError for a file that cannot be read, is cut short, or holds another shape or dtype.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            found, _, kind = np.lib.format.read_array_header_1_0(file)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Mend that, or remove it.") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is cut short ({error}). {AGAIN}") from error
    if (found, kind) != (shape, np.dtype(dtype)):
        raise UserError(
            f"{path} is not of this cache: it holds {found} of {kind}, and the header says {shape} of "
            f"{dtype}. {AGAIN}"
        )
    if size != (whole := start + math.prod(shape) * kind.itemsize):
        raise UserError(f"{path} is cut short ({size} of {whole} bytes). {AGAIN}")
    return start


def mapped(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array of a shard, read from the disk where it is used. Raises UserError as `data_offset` does."""
    skipped = data_offset(path, shape, dtype) // np.dtype(dtype).itemsize
    numbers = getattr(torch, dtype)
    try:
        # torch closes the file once it is mapped; not shared: it is opened for reading alone
        whole = torch.from_file(str(path), shared=False, size=skipped + math.prod(shape), dtype=numbers)
    except RuntimeError as error:
        raise UserError(f"{path} cannot be mapped ({error}). Mend that, or remove it.") from error
    return whole[skipped:].reshape(shape).numpy()

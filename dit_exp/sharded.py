"""Checkpoints in shares: each process writes what it holds, and any number of processes reads it again.

A folder of safetensors files, by torch's distributed checkpoint, beside state.pt with everything that is no
shard. Nothing in it is unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit_exp import parallel

STATE = "state.pt"
PLACE = "__shards__"
"""Key of a dictionary that stands in state.pt where a sharded tensor stood."""


def write(state: dict[str, Any], folder: Path) -> None:
    """Writes a state whose sharded tensors are DTensors; every process calls it. Raises OSError."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    tensors: dict[str, Tensor] = {}
    rest = _taken_out(state, "", tensors)
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise OSError(f"{folder} could not be written: {error}") from error

    def write_rest() -> None:
        try:
            torch.save(rest, folder / STATE)
        except RuntimeError as error:  # torch wraps what the file raised
            raise OSError(f"{folder / STATE} could not be written: {error}") from error

    parallel.from_main(write_rest)


def read(folder: Path, like: Callable[[str], Tensor] | None = None) -> dict[str, Any]:
    """The state in a folder.

    like  gives for a tensor's place ("model.blocks.0.weight") a DTensor whose layout is wanted, and every
          process calls this; without it, tensors come whole to the CPU, for this process alone
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    rest = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    reader = HuggingFaceStorageReader(str(folder))
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    tensors = {
        key: torch.zeros_like(like(key)) if like else torch.empty(data.size, dtype=data.properties.dtype)
        for key, data in stored.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this process reads alone
        load(tensors, storage_reader=reader, no_dist=like is None)
    return _put_back(rest, tensors)


def _taken_out(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    from torch.distributed.tensor import DTensor

    if isinstance(node, DTensor):
        tensors[name] = node
        return {PLACE: name}
    if isinstance(node, dict):
        return {key: _taken_out(value, f"{name}.{key}".lstrip("."), tensors) for key, value in node.items()}
    return node


def _put_back(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if PLACE in node:
        return tensors[node[PLACE]]
    return {key: _put_back(value, tensors) for key, value in node.items()}

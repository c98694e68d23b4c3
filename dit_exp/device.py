"""Which device a run computes on, and how a network is compiled for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dit_exp.errors import UserError


def resolve_device(device: str, local_rank: int = 0) -> torch.device:
    """ "auto" is CUDA where there is one, each process of a machine on its own.

    Raises UserError for what torch does not know or has not here.
    """
    if device == "auto" and torch.cuda.is_available():
        if local_rank >= (count := torch.cuda.device_count()):
            raise UserError(
                f"Process {local_rank} of this machine has no CUDA device of its own: torch sees {count}. "
                "Start one process for each, or pass device=cpu."
            )
        return torch.device("cuda", local_rank)
    if device == "auto":
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device} is no torch device. Pass auto, cpu, cuda or cuda:N.") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={device}, but torch sees no CUDA device. Pass device=auto.")
    return resolved


def compiled(network: Callable[..., Any], mode: bool | str) -> Any:
    """The network, or a method of it, compiled for each shape that it is shown; false leaves it as it is.

    mode  one of torch.compile's: "reduce-overhead" replays kernels as a CUDA graph, "max-autotune" tries them
          out; True is its default
    """
    if mode is False:
        return network
    return torch.compile(network, dynamic=False, mode="default" if mode is True else mode)

"""Which device a run computes on, and how a network is compiled for it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
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


def exact_convolutions() -> AbstractContextManager[None]:
    """In the `with`, cuDNN takes convolutions of float32 in float32 and not, as torch has it do, in TF32."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> bool:
    """Lets the C library keep what tensors on a CPU let go of, for those of the next step; true where it can.

    glibc hands large pieces back to the system, which clears each page anew: without this a training step of
    DiT-S/4 takes 4 to 13 % longer and one of DiT-S/2 11 %. The peak is the same. Other C libraries are left
    as they are.
    """
    # No piece is mapped by itself, and the heap is not trimmed unasked.
    return bool(_of_libc("mallopt", M_MMAP_MAX, 0) and _of_libc("mallopt", M_TRIM_THRESHOLD, -1))


def give_back_freed_memory() -> None:
    """Returns to the system what the C library keeps without use, where it can."""
    _of_libc("malloc_trim", 0)


def _of_libc(name: str, *values: int) -> int:
    """What a function of the C library answers, 0 where there is no such function."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return 0
    return function(*values)


def compiled(network: Callable[..., Any], mode: bool | str) -> Any:
    """The network, or a method of it, compiled for each shape that it is shown; false leaves it as it is.

    mode  one of torch.compile's: "reduce-overhead" replays kernels as a CUDA graph, "max-autotune" tries them
          out; True is its default
    """
    if mode is False:
        return network
    return torch.compile(network, dynamic=False, mode="default" if mode is True else mode)

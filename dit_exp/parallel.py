"""Several processes: who this one is, and what the processes tell each other.

Ranks come from torchrun or from a Slurm step with several tasks; elsewhere a process is alone, and everything
here is then immediate. torch is imported where it is needed, since the command line asks for ranks first.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(hours=1)
"""The longest that one process waits for another: reference features of a large data set take so long."""


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`; `local_rank` counts on one machine and chooses the accelerator."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes files, tracks and talks."""
        return self.rank == 0


def world() -> World:
    """Who this process is, by torchrun's variables, else by those of a Slurm step, else alone.

    An allocation without `srun` has one process whatever its number of tasks, so the step's own is asked for.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return World(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", 0)))
    if (tasks := int(env.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
        return World(int(env["SLURM_PROCID"]), tasks, int(env["SLURM_LOCALID"]))
    return World()


def start() -> World:
    """Joins the processes of a run, once; a second call changes nothing."""
    here = world()
    if not here.main:
        logging.getLogger("dit_exp").setLevel(logging.WARNING)
    if here.size == 1 or connected():
        return here
    import torch
    import torch.distributed as dist

    # Decisions go over the CPU by gloo, so that a device's queue is not emptied to learn them.
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(here.local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method="env://" if "RANK" in os.environ else f"tcp://{_slurm_address()}",
        rank=here.rank,
        world_size=here.size,
        timeout=PATIENCE,
    )
    return here


def stop() -> None:
    """Leaves the group, where there is one."""
    if connected():
        import torch.distributed as dist

        dist.destroy_process_group()


def connected() -> bool:
    if world().size == 1:
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _slurm_address() -> str:
    """host:port of the step's first process; the port follows from the job's number."""
    env = os.environ
    names = subprocess.run(
        ["scontrol", "show", "hostnames", env["SLURM_STEP_NODELIST"]],
        capture_output=True,
        text=True,
        check=True,
    )
    host = names.stdout.split()[0]
    try:
        socket.getaddrinfo(host, None)
    except OSError:  # a node's name need not be a host's; `srun` was started on the first node
        host = env["SLURM_LAUNCH_NODE_IPADDR"]
    digits = int(re.sub(r"\D", "", env["SLURM_JOB_ID"] + env["SLURM_STEP_ID"]))
    return f"{host}:{20000 + digits % 20000}"


def from_main(compute: Callable[[], T]) -> T:
    """What the main process computes, in every process; what it raises, all raise."""
    if not connected():
        return compute()
    import torch.distributed as dist

    box: list[Any] = [None, None]
    if world().main:
        try:
            box[0] = compute()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


@contextmanager
def main_first() -> Iterator[None]:
    """The main process passes alone, then the others: for work whose result a cache keeps."""
    if not connected():
        yield
        return
    import torch.distributed as dist

    if not world().main:
        dist.barrier()
    try:
        yield
    finally:
        if world().main:
            dist.barrier()


def gathered(value: T) -> list[T]:
    """The value of every process, by rank, in every process."""
    if not connected():
        return [value]
    import torch.distributed as dist

    box: list[Any] = [None] * world().size
    dist.all_gather_object(box, value)
    return box


def joined(values: Tensor) -> Tensor:
    """The tensors (n,) of all processes behind each other, by rank; all must be as long."""
    if not connected():
        return values
    import torch
    import torch.distributed as dist

    pieces = [torch.empty_like(values, device="cpu") for _ in range(world().size)]
    dist.all_gather(pieces, values.cpu())
    return torch.cat(pieces).to(values.device)


def mean(values: Tensor) -> Tensor:
    """The mean over processes, on the CPU."""
    values = values.cpu()
    if connected():
        import torch.distributed as dist

        dist.all_reduce(values)
        values /= world().size
    return values


def largest(*values: float) -> list[float]:
    """The largest of each value over the processes."""
    if not connected():
        return list(values)
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.tolist()

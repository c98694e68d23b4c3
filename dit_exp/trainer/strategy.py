"""How several processes share a training: what each holds of the weights, and how gradients meet."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dit_exp import checkpoint, parallel
from dit_exp.types.network import Trainable

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel


class DataParallel:
    """Each process holds all weights; gradients are averaged while they are computed (DDP).

    A process alone trains the model as it is.
    """

    suffix = checkpoint.FILE

    def prepare(self, model: Trainable, ema: AveragedModel | None) -> None:
        self.network: Trainable | DistributedDataParallel = model
        if parallel.connected():
            from torch.nn.parallel import DistributedDataParallel

            device = next(model.parameters()).device
            self.network = DistributedDataParallel(model, [device] if device.type == "cuda" else None)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around the passes of a piece of a step; gradients meet in the last one."""
        if last or not parallel.connected():
            return nullcontext()
        return self.network.no_sync()  # type: ignore[union-attr, operator]

    def whole(self, module: nn.Module) -> nn.Module:
        """The module with all its weights, to sample from."""
        return module

    def newest(self, run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint, ready to be loaded into what `prepare` was given."""
        return checkpoint.newest(run_dir)

    def save(self, state: dict[str, Any], run_dir: Path, step: int, keep: int) -> None:
        """Raises OSError, in every process."""
        path = checkpoint.path_of(run_dir, step, self.suffix)
        parallel.from_main(lambda: checkpoint.save(state, path, keep))


class FullyShard:
    """Each process holds a share of weights, average and optimizer, and gathers a block to use it (FSDP2)."""

    suffix = checkpoint.SHARDS

    def prepare(self, model: Trainable, ema: AveragedModel | None) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        device = next(model.parameters()).device
        self.network, self.device = model, device
        self.plain = copy.deepcopy(model).cpu()
        self.parts: dict[str, nn.Module] = {"model": model}
        mesh = init_device_mesh(device.type, (parallel.world().size,))
        if ema is not None:
            self.parts["ema"] = ema.module
        for module in self.parts.values():
            for child in module.children():
                for block in child if isinstance(child, nn.ModuleList) else ():
                    fully_shard(block, mesh=mesh)
            fully_shard(module, mesh=mesh)

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        self.network.set_requires_gradient_sync(last)  # type: ignore[operator]
        yield

    def whole(self, module: nn.Module) -> nn.Module:
        from torch.distributed.tensor import DTensor

        weights = {
            key: value.full_tensor() if isinstance(value, DTensor) else value
            for key, value in module.state_dict().items()
        }
        plain = copy.deepcopy(self.plain).to(self.device)
        plain.load_state_dict(weights)
        return plain.requires_grad_(False).eval()

    def newest(self, run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
        if (found := checkpoint.newest(run_dir, self._like)) is None:
            return None
        path, state = found
        return path, self._distributed(state, "")

    def save(self, state: dict[str, Any], run_dir: Path, step: int, keep: int) -> None:
        checkpoint.save_shards(state, checkpoint.path_of(run_dir, step, self.suffix), keep)

    def _like(self, place: str) -> Tensor:
        """The layout of a tensor of the state: an optimizer's is that of its weight."""
        part, _, name = place.partition(".")
        if part == "optimizer":
            return list(self.network.parameters())[int(name.split(".")[1])]
        return self.parts[part].get_parameter(name)

    def _distributed(self, node: Any, place: str) -> Any:
        """Shards the whole tensors of a state that processes with all weights have saved."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        if isinstance(node, dict):
            return {
                key: self._distributed(value, f"{place}.{key}".lstrip(".")) for key, value in node.items()
            }
        if not isinstance(node, Tensor) or isinstance(node, DTensor):
            return node
        try:
            like = self._like(place)
        except (AttributeError, LookupError):  # a buffer, or what the objective has learned
            return node
        if not isinstance(like, DTensor) or node.shape != like.shape:
            return node
        return distribute_tensor(node.to(self.device), like.device_mesh, like.placements)


def chosen(name: str) -> DataParallel | FullyShard:
    """trainer.strategy; a process alone has nothing to share."""
    return FullyShard() if name == "fsdp" and parallel.connected() else DataParallel()


def total(norm: Tensor) -> Tensor:
    """A norm over all shards, as a plain tensor."""
    from torch.distributed.tensor import DTensor

    return norm.full_tensor() if isinstance(norm, DTensor) else norm

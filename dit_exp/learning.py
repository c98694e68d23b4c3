"""What the training loop asks of a network, of what it is trained for and of a tracker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class Trainable(nn.Module):
    """What the loop trains.

    null_label     the label that stands for "no class", or None where there is no such row
    class_dropout  share of training labels that the loop replaces by the null label
    """

    null_label: int | None = None
    class_dropout: float = 0.0


class Objective(nn.Module):
    """What a network is trained for. Its parameters are trained with the network's; its state_dict belongs
    into a checkpoint.
    """

    def loss(self, network: Any, x0: Tensor, label: Tensor | None) -> Tensor:
        """Loss of each image, float32 (B,)."""
        raise NotImplementedError

    def learn(self, gather: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        """What is to be learned of the losses since the last call; called once a step.

        gather  joins a tensor (n,) of every rank to one, in the same order on each
        """


class Reconstructed(NamedTuple):
    """What an autoencoder in training makes of images (B, 3, H, W).

    image    (B, 3, H, W)
    penalty  (B,), what the latents cost beside the images' error: commitment to codes, or nats
    latent   (B, c, h, w) before it is quantised, without a gradient
    codes    int64 (B, h, w), the code of each place, or None where there is no codebook
    """

    image: Tensor
    penalty: Tensor
    latent: Tensor
    codes: Tensor | None = None


@runtime_checkable
class Tracker(Protocol):
    """Where a run's numbers and pictures go. `sweep` is the folder of the sweep that a run is of."""

    def start(
        self,
        run_dir: Path,
        parameters: dict[str, Any],
        tags: dict[str, str],
        name: str,
        sweep: Path | None = None,
    ) -> None: ...
    def log(self, values: dict[str, float], step: int) -> None: ...
    def image(self, name: str, path: Path, step: int) -> None: ...
    def artifact(self, path: Path) -> None: ...
    def finish(self, status: str = "FINISHED") -> None: ...

    def view(self, name: str, metrics: list[str], parameters: list[str]) -> None:
        """Offers a table of the runs whose parent this run is, with these columns, sorted by the first."""
        ...

    def deliver(self, run_dir: Path) -> bool:
        """Sends what a run that has ended could not send; tells whether nothing is left."""
        ...

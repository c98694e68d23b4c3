"""What a run has beside its network: what it is trained for, teachers, scores and where numbers go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from dit_exp.types.data import DataSet


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


class Teacher(Protocol):
    """A frozen network whose features a model in training is to resemble. It is no part of any checkpoint.

    name    of the network
    dims    channels of its features
    sha256  of the file of its weights
    """

    name: str
    dims: int
    sha256: str
    network: nn.Module

    def __call__(self, image: Tensor) -> Tensor:
        """RGB images (B, 3, H, W) in [-1, 1] -> features (B, dims, rows, columns)."""
        ...


class Alignment(nn.Module):
    """What is descended in training: (objective, network, x0, label, image (B, C, H, W) in [-1, 1], of which
    x0 was encoded, or None where a cache holds no images) -> the loss, and the losses to log by name, all
    scalars.

    Its parameters are trained with the network's and kept in checkpoints; neither is needed to sample.
    source  who taught, {"teacher": name, "sha256": of its weights}, or empty
    """

    source: dict[str, str]


class Metric(Protocol):
    """Scores of generated images against a reference."""

    num_samples: int

    def prepare(self, data: DataSet, split: str | None = None, count: int | None = None) -> None:
        """Fails early: loads the extractor and the reference statistics before the first sample is drawn.

        split, count  images from all over a split, in place of the configured reference
        """
        ...

    def update(self, images: Tensor, start: int = 0) -> None:
        """Adds generated images, uint8 (B, 3, H, W), the first of which is number `start`."""
        ...

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        """(scores by name, protocol of the measurement) of what all processes have added, in each of them."""
        ...


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

    def for_run(self, run_dir: Path, named: bool) -> Tracker:
        """A tracker for what is added later to the run of a directory: it goes where that run is.

        named  the user asked for this tracker's own place. Raises UserError where the run is elsewhere.
        """
        ...

    def deliver(self, run_dir: Path) -> bool:
        """Sends what a run that has ended could not send; tells whether nothing is left."""
        ...

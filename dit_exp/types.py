"""What the rooms of the house hand to each other: values (tuples of tensors) and protocols.

Time t is in [0, 1] everywhere, 0 is data and 1 is noise. Images are uint8 (B, C, H, W) at the edges
and float in [-1, 1] inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from dit_exp.learning import Trainable


class Batch(NamedTuple):
    """`image` uint8 (B, C, H, W) and `label` int64 (B,), or None where the data has no classes."""

    image: Tensor
    label: Tensor | None


class Denoised(NamedTuple):
    """What a network's output says of x_t, whatever it predicts: x0 and noise, both shaped like x_t.

    `variance` in [0, 1] (same shape) places the posterior's log variance between its lower and its
    upper bound where the network learns it, and is None elsewhere.
    """

    x0: Tensor
    noise: Tensor
    variance: Tensor | None = None


class Modulation(NamedTuple):
    """Shift, scale and gate, each (B, 1 or N, D) or None; a modulation of Nones changes nothing."""

    shift: Tensor | None = None
    scale: Tensor | None = None
    gate: Tensor | None = None

    def modulate(self, x: Tensor) -> Tensor:
        """x (1 + scale) + shift, for x (B, N, D)."""
        if self.scale is None or self.shift is None:
            return x
        return torch.addcmul(self.shift, x, 1 + self.scale)

    def gated(self, x: Tensor) -> Tensor:
        """gate x, for x (B, N, D)."""
        return x if self.gate is None else x * self.gate


Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""(x_t (B, C, h, w), t (B,) in [0, 1], label (B,) or None) -> prediction (B, C', h, w)."""

Denoiser = Callable[[Tensor, Tensor], Denoised]
"""(x_t (B, C, h, w), t (B,) in [0, 1]) -> Denoised."""

DrawNoise = Callable[[], Tensor]
"""Fresh standard normal noise shaped like x_t, each image from its own stream."""


class Encoded(NamedTuple):
    """What a model's first blocks made of (x_t, t, label), to be kept and used again at other steps.

    depth    how many blocks were run
    tensors  each with the images along its first axis; the first, (B, N, D), tells how alike two steps are
    """

    depth: int
    tensors: tuple[Tensor, ...]


class Model(Trainable):
    """A network (x_t, t, label) -> prediction, and what training and guidance must know of it.

    classifies     whether it names the class of a noisy image, and predicts none
    encoder_depth  how many blocks `encode` runs where it is not told, 0 where the model cannot be split
    """

    classifies = False
    encoder_depth = 0

    def encode(self, x: Tensor, t: Tensor, label: Tensor | None = None, depth: int | None = None) -> Encoded:
        """Runs the first `depth` blocks alone. Raises ValueError where the model cannot."""
        raise ValueError(
            f"The blocks of {type(self).__name__} cannot be run apart, so none can be kept between steps. "
            "Use a model of one stack, such as model=ddt_b, dit_b or uvit_s."
        )

    def decode(self, x: Tensor, t: Tensor, label: Tensor | None, encoded: Encoded) -> Tensor:
        """The prediction for x_t at t from blocks run earlier; right after `encode` it is that of `forward`,
        bit for bit. Raises ValueError for what another batch or size of image was encoded to.
        """
        raise NotImplementedError


class TokenGrid(NamedTuple):
    """The image's tokens, which stand first and row by row; what is appended to them stands after."""

    rows: int
    columns: int


class SpatialAttention(nn.Module):
    """An attention that must know where tokens lie: called as (x, c, grid).

    reads_condition  whether it uses c, so that it can be all that conditions a model
    takes_appended   whether it takes tokens beyond the grid's
    """

    reads_condition = False
    takes_appended = True

    def check(self, grid: TokenGrid) -> None:
        """Raises ValueError for a grid that it cannot attend to."""


class Conditioning(nn.Module):
    """How time and label reach the blocks. This one brings c to the attention and does nothing else.

    Built as cond(width, depth), and with final=False where no head is to be modulated.

    `parts` are (B, n, D): time, then label where there is one; in DDT's decoder the encoder's state alone.
    Every `c` is (B, 1 or N, D).

    silent         whether c reaches nothing but the attention
    appended_from  the block before which tokens are appended, None where none are
    """

    silent = False
    appended_from: int | None = None

    def __init__(self, width: int, depth: int, final: bool = True) -> None:
        super().__init__()

    def join(self, x: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens x (B, N, D) and the parts -> x', c'. x' may have more tokens, appended last; the model drops
        them before its head.
        """
        return x, torch.stack(tuple(parts)).sum(0) if len(parts) > 1 else parts[0]

    def enter(self, i: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """The tokens that block i starts from; here, too, some may be appended."""
        return x

    def block(self, i: int, c: Tensor) -> tuple[Modulation, Modulation]:
        """The modulation of block i's attention and of its MLP."""
        return Modulation(), Modulation()

    def between(self, i: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """The tokens of block i between its attention and its MLP."""
        return x

    def final(self, c: Tensor) -> Modulation:
        """The modulation of the head's norm."""
        return Modulation()

    def reset_parameters(self) -> None:
        """Initial weights that are not those of any linear layer of the model."""


class Autoencoder(Protocol):
    """Between images (B, C, H, W) in [-1, 1] and latents (B, c, h, w), normalised as the model sees them.

    bounds      the range of a latent, or None
    stochastic  whether an image has a distribution of latents and not one
    """

    bounds: tuple[float, float] | None
    stochastic: bool

    def encode(self, image: Tensor) -> Tensor:
        """latent(statistics(image), noise), with standard normal noise where it is stochastic."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Images; where there is a codebook, latents are quantised here, once."""
        ...

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]: ...

    def identity(self) -> str:
        """A short hash of weights and settings: equal for equal latents."""
        ...

    def statistics(self, image: Tensor) -> Tensor:
        """What a cache stores: the raw latent, or mean and standard deviation stacked along the channels
        (B, 2 c, h, w) where it is stochastic.
        """
        ...

    def latent(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        """Statistics and noise (B, c, h, w), None where it is not stochastic -> latents, normalised."""
        ...


class Process(Protocol):
    """x_t = alpha(t) x_0 + sigma(t) noise.

    `continuous` tells that every t in [0, 1] is meant; a discrete process knows only its own steps.
    `prior_scale` is sigma(1): sampling starts from prior_scale noise.
    """

    continuous: bool

    @property
    def prior_scale(self) -> float: ...

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (any shape), in t's shape."""
        ...

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt in t's shape; so dx/dt of the probability flow is
        alpha' x_0 + sigma' noise. sigma' may be infinite at t=0. In a discrete process, the slopes of a curve
        through its tables.
        """
        ...

    def velocity(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of x_0 and of noise in the v-prediction, in t's shape."""
        ...

    def input_scale(self, t: Tensor) -> Tensor:
        """What x_t is multiplied by before the network sees it, in t's shape; 1 almost everywhere."""
        ...

    def time_at(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is `ratio` in [0, inf], in its shape: 0 for 0 and at most 1. The
        nearest step in a discrete process.
        """
        ...

    def times(self, u: Tensor) -> Tensor:
        """Training times in (0, 1] for u in (0, 1], more noise for more: the own grid where there is one."""
        ...

    def grid(self, steps: int) -> Tensor:
        """Sampling times, float64 (steps + 1,), from noise down to exactly 0."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told for t: the step's index in a discrete process."""
        ...


class Times(NamedTuple):
    """A draw of training times.

    place   (n,), what `Timesteps.update` knows each draw by
    t       float32 (n,) in (0, 1]
    weight  float32 (n,), what the loss at t is multiplied by; its mean is 1
    """

    place: Tensor
    t: Tensor
    weight: Tensor


class Timesteps(Protocol):
    """Which times a network is trained at. `learns` tells that the draws follow the losses."""

    learns: bool

    def __call__(self, process: Process, n: int, device: torch.device) -> Times: ...

    def update(self, place: Tensor, loss: Tensor) -> None:
        """Losses (n,) of earlier draws, before they were multiplied by the draws' weights. Every rank must
        pass the same ones in the same order, so that all go on drawing from one distribution.
        """
        ...


class Weighting(Protocol):
    """What the loss at a time counts."""

    def __call__(self, error: Tensor, alpha: Tensor, sigma: Tensor, image_error: Tensor) -> Tensor:
        """Losses (B,) from the squared errors (B,) of a prediction.

        image_error  (B,), the squared error of x_0 that an error of 1 in the prediction makes
        """
        ...


class DiscreteSteps(Process, Protocol):
    """A process of T steps with alpha and sigma as tables of T + 1 entries, the first for the data itself."""

    alpha: Tensor
    sigma: Tensor

    def index(self, t: Tensor) -> Tensor:
        """t in [0, 1] -> the number of steps taken, int64 0 to T."""
        ...


class LabelDenoiser(Protocol):
    """A network as a denoiser for any labels: (x_t (B, C, h, w), t (B,), label (B,) or None) -> Denoised.

    Where the network names classes instead (`classifies`), only `network` may be called, for the logits.
    """

    process: Process
    network: Network
    classifies: bool

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised: ...


class Guidance(Protocol):
    """(denoise, x_t, t, label) -> the Denoised that the sampler sees."""

    def begin(self) -> Guidance:
        """The guidance of one trajectory: itself, or where it has a memory one with an empty one."""
        ...

    def __call__(self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised: ...


class DataSet(Protocol):
    """Images and labels. `num_classes` is 0 where there are no labels; `held_out` is a split to test on."""

    num_classes: int
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    held_out: str

    def check(self) -> None:
        """Raises UserError for what can be known to be missing without reading any image."""
        ...

    def train(self, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> Feed:
        """Shuffled, flipped where asked, endless."""
        ...

    def images(self, split: str, count: int | None = None) -> Iterator[Tensor]:
        """The first `count` images of a split in a fixed order, unflipped: uint8 (b, C, H, W) pieces."""
        ...

    def labels(self, split: str) -> Tensor | None:
        """The labels of a split's images in the same order, int64 (N,), or None without classes."""
        ...

    def size(self, split: str) -> int:
        """Images in a split."""
        ...

    def identity(self, split: str) -> str:
        """A short hash of the files and the transform; equal for equal images."""
        ...


class Feed(Protocol):
    """Training batches. Batch k is the same whatever was drawn before it, so a run can resume at k."""

    def batches(self, start: int = 0) -> Iterator[Batch]: ...


class Metric(Protocol):
    """Scores of generated images against a reference."""

    num_samples: int

    def prepare(self, data: DataSet, split: str | None = None, count: int | None = None) -> None:
        """Fails early: loads the extractor and the reference statistics before the first sample is drawn.

        split, count  the first images of a split, in place of the configured reference
        """
        ...

    def update(self, images: Tensor, start: int = 0) -> None:
        """Adds generated images, uint8 (B, 3, H, W), the first of which is number `start`."""
        ...

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        """(scores by name, protocol of the measurement) of what all processes have added, in each of them."""
        ...

"""A classifier of noisy images, for classifier guidance."""

from __future__ import annotations

from torch import Tensor, nn

from dit_exp.nn.embed import TimeEmbedding
from dit_exp.nn.linear import Linear
from dit_exp.types.network import Model

TIME_WIDTH = 128


class _Block(nn.Module):
    """A residual block of two convolutions with the time between them; it halves the image, c is (B, 128)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.before, self.between = nn.GroupNorm(8, width), nn.GroupNorm(8, out)
        self.first = nn.Conv2d(width, out, 3, padding=1)
        self.second = nn.Conv2d(out, out, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(width, out, 1, stride=2)
        self.modulation = Linear(TIME_WIDTH, 2 * out)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.first(nn.functional.silu(self.before(x)))
        scale, shift = self.modulation(c)[:, :, None, None].chunk(2, dim=1)
        h = self.second(nn.functional.silu(self.between(h) * (1 + scale) + shift))
        return self.skip(x) + h


class NoisyClassifier(Model):
    """(x_t (B, C, h, w), t (B,)) -> logits (B, num_classes): what class the image under the noise is of.

    `depth` stages of residual blocks, each of which halves the image and doubles `width`, then the mean over
    pixels. The label argument is the network contract's and is not looked at. Its role is that of the
    classifier in Dhariwal & Nichol 2021, arXiv:2105.05233; the network is a small one of our own.
    Raises ValueError for data without classes or images too small for the stages.
    """

    null_label = None
    class_dropout = 0.0
    classifies = True

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        out_channels: int,
        num_classes: int,
        width: int = 64,
        depth: int = 3,
    ) -> None:
        super().__init__()
        channels, rows, columns = input_shape
        if num_classes < 2:
            raise ValueError("model=classifier needs data with classes, and this data has none.")
        if out_channels:
            raise ValueError(
                "model=classifier names a class and predicts no image. Train it with task=classifier "
                "objective=classification."
            )
        if width < 8 or width % 8:
            raise ValueError(f"model.width={width} must be a multiple of 8.")
        if depth < 1 or min(rows, columns) < 2**depth:
            raise ValueError(
                f"model.depth={depth} halves an input of {rows}x{columns} too often, or never. Choose 1 or "
                "more, up to one pixel."
            )
        self.num_classes = num_classes
        self.time = TimeEmbedding(TIME_WIDTH)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width << i, width << (i + 1)) for i in range(depth))
        self.norm = nn.GroupNorm(8, width << depth)
        self.head = Linear(width << depth, num_classes)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        c = nn.functional.silu(self.time(t))
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, c)
        return self.head(nn.functional.silu(self.norm(h)).mean((2, 3)))

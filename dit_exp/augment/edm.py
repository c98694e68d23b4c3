"""EDM's geometric augmentation: the network is told what was done, so it does not learn it as data."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from dit_exp.types.data import Augmented

SPREAD = 0.2
"""Deviation of the base-2 logarithm of both scalings."""

SHIFT = 1 / 8
"""Deviation of the translation, as a share of the image."""


class Geometry(NamedTuple):
    """What is done to each image, every entry (B,); zeros do nothing.

    mirror, upend   1 where left and right, or top and bottom, change places
    scale           log of the magnification, in SPREADs
    angle           counter-clockwise, in radians
    stretch, along  log of the stretch along an axis, in SPREADs, shrinking across it; the axis' angle
    right, down     translation, in SHIFTs of the image's width and height
    """

    mirror: Tensor
    upend: Tensor
    scale: Tensor
    angle: Tensor
    stretch: Tensor
    along: Tensor
    right: Tensor
    down: Tensor

    def label(self) -> Tensor:
        """The nine numbers that the network is told, float32 (B, 9)."""
        turned = self.angle.cos() - 1, self.angle.sin()
        stretched = self.stretch * self.along.cos(), self.stretch * self.along.sin()
        entries = self.mirror, self.upend, self.scale, *turned, *stretched, self.right, self.down
        return torch.stack(entries, dim=1)

    def apply(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> the same: flips, then scale, turn, stretch and shift in one bicubic resampling with
        reflected borders. An image that is only flipped, or nothing is done to, is not resampled.
        """
        image = torch.where(_each(self.mirror) > 0, image.flip(3), image)
        image = torch.where(_each(self.upend) > 0, image.flip(2), image)
        moved = torch.stack([self.scale, self.angle, self.stretch, self.right, self.down]).any(0)
        grid = affine_grid(self.inverse(*image.shape[-2:]), list(image.shape), align_corners=False)
        there = grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        return torch.where(_each(moved), there, image)

    def inverse(self, rows: int, columns: int) -> Tensor:
        """Where a pixel of the result comes from, (B, 2, 3), in coordinates from -1 to 1 on both sides."""
        grow, stretch = (SPREAD * self.scale).exp2(), (SPREAD * self.stretch).exp2()
        axes = torch.diag_embed(torch.stack([1 / stretch, stretch], dim=1))
        turn = _rotation(self.along)
        back = _rotation(self.angle) @ turn @ axes @ turn.mT / grow[:, None, None]
        size = torch.tensor([columns, rows], dtype=back.dtype, device=back.device)
        shift = SHIFT * size * torch.stack([self.right, self.down], dim=1)
        # Angles are between pixels, so the unit is the pixel; then back to halves of each side.
        offset = -(back @ shift[..., None])
        return torch.cat([back * size / size[:, None], 2 * offset / size[:, None]], dim=2)


class EdmAugmentation:
    """Draws a `Geometry` for each image: (B, C, H, W) in [-1, 1] -> Augmented with labels (B, 9).

    Each of upend, scale, angle, stretch and the two shifts together is done with `probability`; half of the
    images are mirrored, whatever the probability above 0, which takes the place of the data set's own flips.
    It is done to images, before an autoencoder encodes them. EDM's code resamples with a wavelet at twice the
    resolution; here it is bicubic. Source: Karras et al. 2022, arXiv:2206.00364, appendix F.2; the stretch's
    axis is turned for half of the images, as in EDM's code.
    Raises ValueError for a probability outside [0, 1].
    """

    entries = 9

    def __init__(self, probability: float = 0.12) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"augment.probability={probability} must lie in [0, 1].")
        self.probability = probability

    def __call__(self, image: Tensor) -> Augmented:
        geometry = self.draw(len(image), image.device)
        return Augmented(geometry.apply(image), {"augmentation": geometry.label()})

    def draw(self, n: int, device: torch.device) -> Geometry:
        """From torch's default generator, float32 (n,) each."""

        def sometimes(value: Tensor, probability: float = self.probability) -> Tensor:
            return value * (torch.rand(n, device=device) < probability)

        def coin() -> Tensor:
            return torch.randint(2, (n,), device=device).float()

        def normal() -> Tensor:
            return torch.randn(n, device=device)

        def angle() -> Tensor:
            return math.pi * (2 * torch.rand(n, device=device) - 1)

        shifted = sometimes(torch.ones(n, device=device))
        return Geometry(
            mirror=sometimes(coin(), float(self.probability > 0)),
            upend=sometimes(coin()),
            scale=sometimes(normal()),
            angle=sometimes(angle()),
            stretch=sometimes(normal()),
            along=sometimes(angle(), 0.5),
            right=shifted * normal(),
            down=shifted * normal(),
        )


def _each(value: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return value[:, None, None, None]


def _rotation(angle: Tensor) -> Tensor:
    """(B,) -> (B, 2, 2) on (x right, y down); positive angles turn clockwise as seen."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)

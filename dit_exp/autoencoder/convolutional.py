"""Autoencoders that this project trains: one encoder and decoder, and what a subclass puts between them.

The layers are diffusers', under the names of its AutoencoderKL, so that weights can be compared.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dit_exp import checkpoint as checkpoints
from dit_exp.autoencoder.latents import Latents
from dit_exp.types.training import Reconstructed

PIECE = 16
"""Images that are quantised at once where nothing is trained: each of their places meets every code."""


class Convolutional(Latents):
    """Residual convolutions, one stage a width, the sides halved between stages; 1x1 around the bottleneck.

    settings    what a subclass was made with
    channels    of a latent
    widths      channels of the stages, from the image inwards
    layers      residual blocks of a stage; the decoder has one more
    attention   one head in the middle of encoder and decoder
    groups      of the group norms
    checkpoint  a run of task=autoencoder, or its autoencoder.pt, whose weights are loaded

    The layout is that of Rombach et al. 2021, arXiv:2112.10752. Raises ValueError for sizes that do not fit.
    """

    moments = 1
    """Encoder outputs for each channel of a latent."""

    codebook_size = 0
    """Codes, where there are any."""

    def __init__(
        self,
        settings: dict[str, Any],
        channels: int,
        widths: Sequence[int],
        layers: int,
        attention: bool,
        groups: int,
        checkpoint: str | None,
    ) -> None:
        if not widths or layers < 1 or groups < 1 or any(width % groups for width in widths):
            raise ValueError(
                f"autoencoder.widths={list(widths)} must be multiples of autoencoder.groups={groups}, and "
                f"autoencoder.layers={layers} at least 1."
            )
        from diffusers.models.autoencoders.vae import Decoder, Encoder

        shape = {"widths": list(widths), "layers": layers, "attention": attention, "groups": groups}
        super().__init__(settings | shape, channels, len(widths) - 1)
        outputs, stages = self.moments * channels, len(widths)
        self.encoder = Encoder(
            3,
            outputs,
            ("DownEncoderBlock2D",) * stages,
            tuple(widths),
            layers,
            groups,
            double_z=False,
            mid_block_add_attention=attention,
        )
        self.quant_conv = nn.Conv2d(outputs, outputs, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.decoder = Decoder(
            channels,
            3,
            ("UpDecoderBlock2D",) * stages,
            tuple(widths),
            layers,
            groups,
            mid_block_add_attention=attention,
        )
        self.checkpoint = checkpoint

    def load(self) -> None:
        """Loads the weights of `checkpoint`, where there is one; a subclass calls it when it is complete."""
        if self.checkpoint is not None:
            path, stored = checkpoints.autoencoder(self.checkpoint)
            checkpoints.load_weights(self, stored["model"], path)

    @property
    def last_layer(self) -> Tensor:
        """The weight that makes the image's colours; VQGAN compares gradients there."""
        return self.decoder.conv_out.weight

    @abstractmethod
    def bottleneck(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The encoder's output -> (what the decoder gets (B, c, h, w), penalty (B,), codes (B, h, w))."""

    def raw(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> the encoder's output (B, moments c, h, w)."""
        return self.quant_conv(self.encoder(image))

    def statistics(self, image: Tensor) -> Tensor:
        return self.raw(image)

    def quantized(self, raw: Tensor) -> Tensor:
        """Raw latents (B, c, h, w) -> the codes' vectors, where there are codes."""
        return raw

    def image_of(self, raw: Tensor) -> Tensor:
        z = torch.cat([self.quantized(piece) for piece in raw.split(PIECE)])
        return self.decoder(self.post_quant_conv(z))

    def forward(self, image: Tensor) -> Reconstructed:
        """Images (B, 3, H, W) in [-1, 1] -> what they are trained by."""
        raw = self.raw(image)
        z, penalty, codes = self.bottleneck(raw)
        return Reconstructed(self.decoder(self.post_quant_conv(z)), penalty, raw.detach(), codes)

    def restart(self, vectors: Tensor, dead: Tensor) -> int:
        """Gives dead codes (K,) places among vectors (n, c) and says how many; no code can die here."""
        return 0

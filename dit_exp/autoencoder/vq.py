"""Vector quantisation: every place of a latent is the nearest of a codebook's vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dit_exp.autoencoder.convolutional import Convolutional


class VQ(Convolutional):
    """The model sees what stands before the codebook; `decode` quantises it, once.

    codebook_size  codes, of `channels` numbers each
    commitment     weight of (z - e)^2, which draws the encoder alone to its codes
    decay          of the averages that the codes are: they follow the latents and have no gradient
    rotation       the gradient passes the codebook by a rotation (arXiv:2410.06424) and not unchanged

    The codes start as k-means of the first batch. Source: van den Oord et al. 2017, arXiv:1711.00937; latents
    before the codebook: Rombach et al. 2021, arXiv:2112.10752, "VQ-reg".
    """

    def __init__(
        self,
        channels: int = 4,
        codebook_size: int = 8192,
        widths: Sequence[int] = (128, 256, 384),
        layers: int = 2,
        attention: bool = False,
        groups: int = 32,
        commitment: float = 0.2,
        decay: float = 0.99,
        rotation: bool = False,
        checkpoint: str | None = None,
    ) -> None:
        from loguru import logger
        from vector_quantize_pytorch import VectorQuantize

        # It warns of a first batch with fewer places than codes; unused codes are restarted here.
        logger.disable("vector_quantize_pytorch")
        settings = {"channels": channels, "codebook_size": codebook_size, "rotation": rotation}
        super().__init__(settings, channels, widths, layers, attention, groups, checkpoint)
        if codebook_size < 2:
            raise ValueError(f"autoencoder.codebook_size={codebook_size} must be at least 2.")
        self.codebook_size, self.commitment = codebook_size, commitment
        self.quantizer = VectorQuantize(
            channels,
            codebook_size,
            decay=decay,
            kmeans_init=True,
            commitment_weight=0.0,  # ours is a loss of each image
            rotation_trick=rotation,
            accept_image_fmap=True,
        )
        # A code that was given a new place counts as one vector there.
        self.quantizer._codebook.reset_cluster_size = 1.0
        self.load()

    def _quantize(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        # Half precision cannot tell which of 8192 codes is nearest.
        with torch.autocast(raw.device.type, enabled=False):
            z, codes, _ = self.quantizer(raw.float())
        return z, codes

    def bottleneck(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        z, codes = self._quantize(raw)
        distance = (raw.float() - z.detach()).square().flatten(1).mean(1)
        return z, self.commitment * distance, codes

    def quantized(self, raw: Tensor) -> Tensor:
        return self._quantize(raw)[0]

    def restart(self, vectors: Tensor, dead: Tensor) -> int:
        """The codes that moved: alone, the library defers those for which there are too few vectors."""
        before = self.quantizer.codebook.clone()
        self.quantizer._codebook.replace(vectors[None], dead[None])
        return int((self.quantizer.codebook != before).any(1).sum())

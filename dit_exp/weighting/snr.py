"""The signal-to-noise ratio as weight."""

from __future__ import annotations

from torch import Tensor

from dit_exp.weighting.image import ImageWeighting


class SNR(ImageWeighting):
    """w = SNR: the squared error of the noise, DDPM's simple loss, for every prediction.

    Source: Ho et al. 2020, arXiv:2006.11239; Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """

    def weight(self, snr: Tensor) -> Tensor:
        return snr

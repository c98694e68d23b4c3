"""The signal-to-noise ratio, levelling off."""

from __future__ import annotations

from torch import Tensor

from dit_exp.weighting.min_snr import MinSNR


class SoftMinSNR(MinSNR):
    """w = SNR gamma / (SNR + gamma), which is 1 / (sigma^2 + 1 / gamma) where alpha is 1.

    Source: Crowson et al. 2024, arXiv:2401.11605.
    """

    def weight(self, snr: Tensor) -> Tensor:
        return snr / (1 + snr / self.gamma)

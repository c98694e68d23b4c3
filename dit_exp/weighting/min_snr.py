"""The signal-to-noise ratio, cut off."""

from __future__ import annotations

from torch import Tensor

from dit_exp.weighting.image import ImageWeighting


class MinSNR(ImageWeighting):
    """w = min(SNR, gamma). Source: Hang et al. 2023, arXiv:2303.09556."""

    def __init__(self, gamma: float = 5.0) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError(f"weighting.gamma={gamma} must be above 0.")
        self.gamma = gamma

    def weight(self, snr: Tensor) -> Tensor:
        return snr.clamp(max=self.gamma)

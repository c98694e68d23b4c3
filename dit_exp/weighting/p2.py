"""The perception-prioritized weight."""

from __future__ import annotations

from torch import Tensor

from dit_exp.weighting.image import ImageWeighting


class P2(ImageWeighting):
    """1 / (k + SNR)^gamma on the error of the noise, so w = SNR / (k + SNR)^gamma.

    Source: Choi et al. 2022, arXiv:2204.00227.
    """

    def __init__(self, gamma: float = 1.0, k: float = 1.0) -> None:
        super().__init__()
        if gamma < 0 or k <= 0:
            raise ValueError(f"weighting.gamma={gamma} must be 0 or more and weighting.k={k} above 0.")
        self.gamma, self.k = gamma, k

    def weight(self, snr: Tensor) -> Tensor:
        return snr / (self.k + snr) ** self.gamma

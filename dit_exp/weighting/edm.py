"""EDM's weight."""

from __future__ import annotations

from torch import Tensor

from dit_exp.weighting.image import ImageWeighting


class EDMWeighting(ImageWeighting):
    """w = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = SNR + 1 / sigma_data^2, with alpha = 1.

    It is the squared error of EDM's F, and with sigma_data=1 that of v.
    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        super().__init__()
        if sigma_data <= 0:
            raise ValueError(f"weighting.sigma_data={sigma_data} must be above 0.")
        self.sigma_data = sigma_data

    def weight(self, snr: Tensor) -> Tensor:
        return snr + 1 / self.sigma_data**2

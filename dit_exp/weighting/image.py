"""Weights that mean the same loss whatever is predicted, since they are stated for the error of x_0.

At one x_t all predictions are linear in x_0, so the squared error of one is a multiple of another's. With
SNR = alpha^2 / sigma^2 the error of eps is SNR times that of x_0, and the error of v, where variance is
preserved, SNR + 1 times. A weight w_eps of eps's error is the weight w_eps SNR of x_0's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ImageWeighting(nn.Module, ABC):
    """L = w(SNR) |x_0's estimate - x_0|^2. Subclasses name w."""

    def __init__(self) -> None:  # nn.Module's own would be read as taking any argument
        super().__init__()

    @abstractmethod
    def weight(self, snr: Tensor) -> Tensor:
        """The weight of the squared error of x_0 at SNR = alpha^2 / sigma^2, in its shape."""

    def forward(self, error: Tensor, alpha: Tensor, sigma: Tensor, image_error: Tensor) -> Tensor:
        return error * image_error * self.weight((alpha / sigma) ** 2)

"""No weighting: every prediction's own squared error."""

from __future__ import annotations

from torch import Tensor, nn


class NoWeighting(nn.Module):
    """The squared error of what is predicted, as it is.

    The one choice that is not the same loss for every prediction: it counts x_0's error SNR times for eps,
    SNR + 1 times for v where variance is preserved, and once for x.
    """

    def __init__(self) -> None:  # nn.Module's own would be read as taking any argument
        super().__init__()

    def forward(self, error: Tensor, alpha: Tensor, sigma: Tensor, image_error: Tensor) -> Tensor:
        return error

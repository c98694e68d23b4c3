"""EDM's preconditioned prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.objective.prediction import Prediction
from dit_exp.types.diffusion import Process, Timesteps, Weighting


class PreconditionedPrediction(Prediction):
    """The network says F in x0 = c_skip x_t / alpha + c_out F, which has unit variance at every noise level.

    With s = sigma / alpha and d = sigma_data, c_skip = d^2 / (s^2 + d^2) and c_out = s d / sqrt(s^2 + d^2).
    What EDM does to the network's inputs, c_in and c_noise, is done by process=edm. With sigma_data=1 and
    preserved variance F is -v. Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    Raises ValueError where the process or the weighting was given another sigma_data.
    """

    name = "edm"

    def __init__(
        self,
        process: Process,
        timesteps: Timesteps,
        weighting: Weighting | None = None,
        sigma_data: float = 0.5,
    ) -> None:
        for group, part in (("process", process), ("weighting", weighting)):
            other = getattr(part, "sigma_data", sigma_data)
            if other != sigma_data:
                raise ValueError(
                    f"objective.sigma_data={sigma_data} and {group}.sigma_data={other} are the deviation of "
                    "the same data. Set both to one number."
                )
        if sigma_data <= 0:
            raise ValueError(f"objective.sigma_data={sigma_data} must be above 0.")
        self.sigma_data = sigma_data
        super().__init__(process, timesteps, weighting)

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1 - c_skip) / c_out and -c_skip s / c_out, written without dividing by alpha."""
        alpha, sigma = self.process.coefficients(t)
        length = torch.hypot(sigma, self.sigma_data * alpha)
        return sigma / (self.sigma_data * length), -self.sigma_data * alpha / length

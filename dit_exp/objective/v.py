"""Prediction of the velocity."""

from __future__ import annotations

from torch import Tensor

from dit_exp.objective.prediction import Prediction


class VelocityPrediction(Prediction):
    """The network says v: alpha noise - sigma x0 if variance is preserved, noise - x0 on a straight path.

    With process=flow this is flow matching. Source: Salimans & Ho 2022, arXiv:2202.00512.
    """

    name = "v"

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.process.velocity(t)

"""Prediction of the path's own velocity."""

from __future__ import annotations

from torch import Tensor

from dit_exp.objective.prediction import Prediction


class FlowPrediction(Prediction):
    """The network says dx/dt = alpha' x0 + sigma' noise, on any process.

    On process=flow that is v. Where variance is preserved sigma' grows without bound towards t=0, and with it
    the loss; a weighting other than none takes that out.
    Source: Lipman et al. 2022, arXiv:2210.02747; Ma et al. 2024, arXiv:2401.08740.
    """

    name = "flow"

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.process.rates(t)

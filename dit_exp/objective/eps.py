"""Prediction of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.objective.prediction import Prediction


class NoisePrediction(Prediction):
    """The network says eps, the noise in x_t. Source: Ho et al. 2020, arXiv:2006.11239."""

    name = "eps"

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

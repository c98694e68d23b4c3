"""Prediction of the clean image."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.objective.prediction import Prediction


class ImagePrediction(Prediction):
    """The network says x0. Source: Ho et al. 2020, arXiv:2006.11239, section 3.2."""

    name = "x"

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), torch.zeros_like(t)

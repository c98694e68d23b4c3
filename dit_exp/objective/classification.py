"""Naming the class of a noised image, which classifier guidance needs."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.objective.prediction import Prediction
from dit_exp.types.diffusion import Denoised
from dit_exp.types.network import Network


class Classification(Prediction):
    """Cross-entropy of the label given x_t, at the times and noise that every objective draws.

    `outputs` is 0: nothing is said of x0, and `denoised` refuses. Source: Dhariwal & Nichol 2021,
    arXiv:2105.05233, section 4.
    """

    name = "classification"
    outputs = 0

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """A class says as much of x0 at every t, so no process is refused."""
        return torch.ones_like(t), torch.zeros_like(t)

    def denoised(self, out: Tensor, x_t: Tensor, t: Tensor) -> Denoised:
        raise ValueError("A classifier predicts no image. Use it for guidance=classifier.")

    def loss(self, network: Network, x0: Tensor, label: Tensor | None) -> Tensor:
        """Loss of each image, float32 (B,), for labels (B,)."""
        assert label is not None

        def surprise(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
            return torch.nn.functional.cross_entropy(network(x, t, None).float(), label, reduction="none")

        return super().loss(surprise, x0, label)

    def error(self, out: Tensor, x0: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return out

"""A trained network as a denoiser: whatever it predicts as the pair (x0, noise), then guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dit_exp.objective.prediction import Prediction, per_image
from dit_exp.types.diffusion import Denoised, Guidance, Process
from dit_exp.types.network import Network


def on_process_time(model: Callable[..., Any], process: Process) -> Network:
    """The model as a function of t in [0, 1]: it sees x_t and t as the process shows them to networks. What a
    training passes by name, see types.Model, is handed on.
    """

    def network(x: Tensor, t: Tensor, label: Tensor | None, **more: Any) -> Any:
        return model(per_image(process.input_scale(t), x) * x, process.network_time(t), label, **more)

    return network


class NetworkDenoiser:
    """A network and what it predicts as a `types.LabelDenoiser`."""

    def __init__(self, network: Network, objective: Prediction) -> None:
        self.network, self.objective, self.process = network, objective, objective.process
        self.classifies = objective.outputs == 0

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised:
        return self.objective.denoised(self.network(x, t, label), x, t)


class Denoise:
    """(x_t (B, C, h, w), t (B,)) -> Denoised, for fixed labels (B,) or None, along one trajectory.

    bounds  range that x0 is clamped to, the noise being recomputed to match; None leaves x0 alone
    """

    def __init__(
        self,
        network: Network,
        objective: Prediction,
        guidance: Guidance,
        label: Tensor | None,
        bounds: tuple[float, float] | None,
    ) -> None:
        self.denoise, self.guidance = NetworkDenoiser(network, objective), guidance.begin()
        self.label, self.bounds = label, bounds

    def __call__(self, x: Tensor, t: Tensor) -> Denoised:
        said = self.guidance(self.denoise, x, t, self.label)
        if self.bounds is None:
            return said
        x0 = said.x0.clamp(*self.bounds)
        alpha, sigma = (per_image(v, x) for v in self.denoise.process.coefficients(t))
        return said._replace(x0=x0, noise=(x - alpha * x0) / sigma)

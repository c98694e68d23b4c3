"""Exact denoisers: what the best possible network says, for data whose distribution is known.

x_t = alpha x_0 + sigma noise. Every shape is (B, C, h, w); every pixel of `Gaussian` is independent, and an
image of `Mixture` is as a whole from one component. All are called as a network, (x_t, t, label) ->
E[x_0 | x_t, label]; `denoiser` and `network` turn them into what samplers and guidance take.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_exp.objective.prediction import Prediction, per_image
from dit_exp.sampler.walk import Sampler
from dit_exp.types.diffusion import Denoised, Denoiser, Process
from dit_exp.types.network import Network


@dataclass(frozen=True)
class Gaussian:
    """x_0 ~ N(mean, std^2 I). The label is ignored."""

    process: Process
    mean: float = 0.3
    std: float = 0.5

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        alpha, sigma = (per_image(v, x) for v in self.process.coefficients(t.to(x.dtype)))
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x - alpha * self.mean)

    def flow(self, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Where the probability-flow ODE carries x from time `start` to time `end` (scalars), exactly.

        Marginals are N(alpha mean, alpha^2 std^2 + sigma^2) and the map between them is affine.
        """
        (a, s), (b, r) = (self.process.coefficients(v.to(x.dtype)) for v in (start, end))
        widening = torch.hypot(b * self.std, r) / torch.hypot(a * self.std, s)
        return b * self.mean + widening * (x - a * self.mean)


@dataclass(frozen=True)
class Mixture:
    """x_0 ~ sum of weights_k N(means_k, std^2 I), with k as the label.

    means   (K, C, h, w), in the dtype that is computed in
    weights  (K,), summing to 1
    A label below K names a component; K, the null label, and None stand for the whole mixture.
    """

    process: Process
    means: Tensor
    weights: Tensor
    std: float = 0.25

    @property
    def null_label(self) -> int:
        return len(self.means)

    def posterior(self, x: Tensor, t: Tensor) -> Tensor:
        """The probability of each component given x_t, (B, K)."""
        alpha, sigma = self.process.coefficients(t.to(x.dtype))
        variance = (alpha**2 * self.std**2 + sigma**2)[:, None]
        centred = x[:, None] - alpha[:, None, None, None, None] * self.means
        return (self.weights.log() - centred.square().flatten(2).sum(2) / (2 * variance)).softmax(1)

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        alpha, sigma = (per_image(v, x) for v in self.process.coefficients(t.to(x.dtype)))
        shares = self.posterior(x, t)
        if label is not None:
            named = torch.nn.functional.one_hot(label, self.null_label + 1)[:, :-1].to(x.dtype)
            shares = torch.where((label == self.null_label)[:, None], shares, named)
        mean = torch.einsum("bk,kchw->bchw", shares, self.means)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return mean + gain * (x - alpha * mean)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Data and labels: (n, C, h, w) and (n,)."""
        label = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *self.means.shape[1:], dtype=self.means.dtype, generator=generator)
        return self.means[label] + self.std * noise, label


@dataclass(frozen=True)
class Correlated:
    """x_0 ~ N(mean, covariance) over all D = C h w entries of an image in order. The label is ignored.

    mean  (D,)   covariance  (D, D), both in the dtype that is computed in
    """

    process: Process
    mean: Tensor
    covariance: Tensor

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        alpha, sigma = (v[:, None, None] for v in self.process.coefficients(t.to(x.dtype)))
        unit = torch.eye(len(self.mean), dtype=x.dtype)
        centred = x.flatten(1) - alpha[..., 0] * self.mean
        whole = alpha**2 * self.covariance + sigma**2 * unit
        solved = torch.linalg.solve(whole, centred[..., None])
        return (self.mean + (alpha * self.covariance @ solved)[..., 0]).reshape(x.shape)


def denoiser(oracle: Gaussian | Mixture | Correlated, label: Tensor | None = None) -> Denoiser:
    """The oracle as samplers call it, for fixed labels."""

    def denoise(x: Tensor, t: Tensor) -> Denoised:
        x0 = oracle(x, t, label)
        alpha, sigma = (per_image(v, x) for v in oracle.process.coefficients(t.to(x.dtype)))
        return Denoised(x0, (x - alpha * x0) / sigma)

    return denoise


def network(oracle: Gaussian | Mixture | Correlated, objective: Prediction) -> Network:
    """The oracle as a network that predicts what `objective` asks for: guidance and `Denoise` take it."""

    def predict(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        said = denoiser(oracle, label)(x, t)
        return objective.target(said.x0, said.noise, t.to(x.dtype))

    return predict


def moments(sampler: Sampler, oracle: Gaussian, times: Tensor) -> tuple[float, float]:
    """Mean and deviation of what a sampler makes of N(0, prior_scale^2), exactly.

    On Gaussian data the sample is an affine function of the start and of every fresh noise; its coefficients
    are read off by running a batch in which each is 1 in turn and all others are 0.
    """
    process, draws = oracle.process, 0
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def count():
        nonlocal draws
        draws += 1
        return torch.zeros_like(one)

    sampler(denoiser(oracle), one, process, count, times)
    units = torch.eye(draws + 2, dtype=torch.float64)[1:]  # none of them, the start, then each draw
    rows = iter(units)
    x = process.prior_scale * next(rows).reshape(-1, 1, 1, 1)
    out = sampler(denoiser(oracle), x, process, lambda: next(rows).reshape(-1, 1, 1, 1), times).flatten()
    return float(out[0]), float((out[1:] - out[0]).square().sum().sqrt())

"""The exact solution of the probability-flow ODE for an x0 that is a polynomial in lambda, half the log-SNR.

With lambda = log(alpha / sigma) it is x_s = sigma_s / sigma_t x_t + sigma_s I, where I is the integral of
e^lambda x0(lambda) from lambda_t to lambda_s: what DPM-Solver++ and UniPC are made of.
Source: Lu et al. 2022, arXiv:2211.01095, proposition 4.1.
"""

from __future__ import annotations

import math

from torch import Tensor

from dit_exp.sampler.walk import Stop, combined, weights

Said = list[tuple[Stop, Tensor]]
"""Stops with the x0 that was predicted there."""


def decay(now: Stop, following: Stop) -> float:
    """e^-h for h = lambda_s - lambda_t: 0 from pure noise and to the data."""
    return following.ratio / now.ratio


def solve(x: Tensor, said: Said, following: Stop) -> Tensor:
    """x at the stop of said[0] -> x at `following`, for the polynomial through all of `said`.

    Two points take the midpoint rule of DPM-Solver++(2M) and UniPC for the slope's share, more are integrated
    exactly. Where lambda is infinite, at pure noise and at the data, a polynomial in it has one value, so
    those points are left out and steps from or to there are of first order, which is the others' limit.
    """
    now, x0 = said[0]
    total = 1 - decay(now, following)
    if math.isinf(now.half_log_snr) or math.isinf(following.half_log_snr):
        said = said[:1]
    said = [(stop, old) for stop, old in said if not math.isinf(stop.half_log_snr)] or said
    if len(said) == 1:
        mean = total * x0
    else:
        h = following.half_log_snr - now.half_log_snr
        nodes = [(stop.half_log_snr - now.half_log_snr) / h for stop, _ in said]
        shares = midpoint(nodes, total) if len(nodes) == 2 else weights(nodes, moments(h, len(nodes)))
        mean = combined(shares, [old for _, old in said])
    return following.sigma / now.sigma * x + following.alpha * mean


def midpoint(nodes: list[float], total: float) -> list[float]:
    """Weights of two points, the first at 0: the slope counts as at the middle of the step."""
    slope = total / (2 * nodes[1])
    return [total - slope, slope]


def moments(h: float, count: int) -> list[float]:
    """integral from 0 to 1 of h e^(h (z - 1)) z^k dz for k below `count`."""
    values = [-math.expm1(-h)]
    for k in range(1, count):
        values.append(1 - k / h * values[-1])
    return values

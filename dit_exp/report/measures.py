"""What a sweep is judged by: which way each measure is better, and how figures are written."""

from __future__ import annotations

import math
from typing import Any

from dit_exp.report.statistics import Estimate

LOWER = {"bits", "fd", "fid", "kd", "kid", "loss"}
HIGHER = {"is", "precision", "psnr", "recall", "ssim"}

LOSSES = ("validation_loss", "loss")

COSTS = {
    "minutes": "minutes",
    "images": "images",
    "gmac": "GMAC / image",
    "parameters": "parameters",
    "memory_gib": "memory, GiB",
    "images_per_second": "images / s",
}
"""Keys of metrics.json that say what a cell has cost, and their headers."""


def direction(name: str) -> int:
    """-1 where lower is better, 1 where higher is, 0 for a measure of which that is not known.

    A score's name begins with its kind and ends with its network (fd_dinov2), of reconstructions with an r
    before it (rfd_dinov2); a loss's name ends with it.
    """
    words = name.split("_")
    kinds = {words[0], words[0].removeprefix("r")}
    if kinds & LOWER or words[-1] == "loss":
        return -1
    return int(bool(kinds & HIGHER))


def written(estimate: Estimate) -> str:
    """41.2 [39.8, 42.6]: two digits of half the interval or three of the mean. A single value has none."""
    return _written(estimate, _places(estimate.mean) + 1)


def _written(estimate: Estimate, least: int) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{figure(estimate.mean)} (no interval)"
    places = max(0, least, _places((estimate.high - estimate.low) / 2))
    return f"{estimate.mean:,.{places}f} [{estimate.low:,.{places}f}, {estimate.high:,.{places}f}]"


def difference(estimate: Estimate) -> str:
    """Two digits of half the interval: a difference may be small beside it."""
    return _written(estimate, 0)


def signed(estimate: Estimate) -> str:
    """A difference with its sign."""
    text = difference(estimate)
    return text if text.startswith("-") else f"+{text}"


def figure(value: float) -> str:
    """Four digits without an exponent: 1.28 M, 41.23, 0.0412."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.4g} M"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{_places(value) + 2}f}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def plain(value: Any) -> str:
    """A value of a protocol."""
    return figure(value) if isinstance(value, float) else str(value)


def _places(size: float) -> int:
    """Decimal places that keep two digits of a number of this size; negative for one of three and more."""
    return 1 - math.floor(math.log10(abs(size))) if size else 0

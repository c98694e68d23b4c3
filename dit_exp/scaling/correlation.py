"""How closely scores follow the model's cost: the correlation that the DiT paper reports for FID, -0.93.

Source: Peebles & Xie 2022, arXiv:2212.09748, whose "Gflops" are this project's GMAC.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dit_exp.scaling.points import Run

FREE = ("step", "seed", "batch_size")
"""Keys of a protocol in which comparable runs may differ."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of log GMAC and a score, over `runs` runs of the same number of training images."""

    score: str
    r: float
    runs: int
    images: int


def correlations(runs: Sequence[Run]) -> list[Correlation]:
    """One a score, over the largest group with one protocol and one number of images.

    Groups with fewer than three costs, or with equal scores, say nothing and are left out.
    """
    groups: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        protocol = json.dumps({k: v for k, v in run.protocol.items() if k not in FREE}, sort_keys=True)
        for name in run.scores:
            groups.setdefault((name, run.images, protocol), []).append(run)
    found: dict[str, Correlation] = {}
    for (name, images, _), group in groups.items():
        cost = np.log([run.gmac for run in group])
        score = np.array([run.scores[name] for run in group])
        if len(set(cost)) < 3 or not score.std():
            continue
        if name not in found or len(group) > found[name].runs:
            found[name] = Correlation(name, float(np.corrcoef(cost, score)[0, 1]), len(group), images)
    return list(found.values())

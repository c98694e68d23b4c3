"""Blocks run evenly spread, and between the runs what they would give is forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dit_exp.sampler.reuse.plan import Alike, Plan
from dit_exp.sampler.reuse.uniform import Uniform


class Forecast(Uniform):
    """Runs as often as `Uniform`, each carried on over time along the line through it and the run before.

    Until there are two runs of one batch, what the first gave is kept as it is. It doubles what is held. For
    samplers that add no noise: what noise changes from one step to the next lies on no line. Source: the
    first order of Liu et al. 2025, arXiv:2503.06923, who forecast what every block adds.
    """

    def plan(self, batches: Callable[[], Sequence[int]], alike: Alike) -> Plan:
        return super().plan(batches, alike)._replace(ahead=True)

"""DPM-Solver++ of first order."""

from __future__ import annotations

from dit_exp.sampler.dpmpp_2m import DPMSolver2M


class DPMSolver1(DPMSolver2M):
    """The last predicted image alone, which makes the step DDIM's with eta=0.

    Source: Lu et al. 2022, arXiv:2211.01095.
    """

    memory = 1

"""DPM-Solver++(3M)."""

from __future__ import annotations

from dit_exp.sampler.dpmpp_2m import DPMSolver2M


class DPMSolver3M(DPMSolver2M):
    """The parabola through the last three predicted images, in log-SNR, integrated exactly: third order.

    Published code for three steps halves the parabola's second difference and falls back to second order;
    tests/sampler/test_parity.py holds the difference. Source: Lu et al. 2022, arXiv:2211.01095.
    """

    memory = 3

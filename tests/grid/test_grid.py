"""Grids of sampling times."""

from __future__ import annotations

import pytest
import torch

from dit_exp.grid.karras import Karras
from dit_exp.grid.respaced import Respaced
from dit_exp.grid.shifted import Shifted
from dit_exp.grid.uniform import Uniform
from dit_exp.process.cosine import Cosine
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.linear import Linear
from dit_exp.process.vp import VP

GRIDS = [Uniform(), Karras(), Shifted(), Shifted(0.2)]


def indices(times: torch.Tensor) -> list[int]:
    """What the network is told in a process of 1000 steps."""
    return ((times[:-1] * 1000).round().long() - 1).tolist()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("process", [Linear(), Cosine(), Linear(zero_terminal_snr=True), Flow(), VP(), EDM()])
@pytest.mark.parametrize("steps", [1, 2, 50, 700])
def test_every_grid_falls_in_each_step_from_1_to_exactly_0(grid, process, steps):
    times = grid(process, steps)
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert times[0] == 1
    assert times[-1] == 0
    assert bool((times.diff() < 0).all())
    if not process.continuous:
        torch.testing.assert_close(times, process.index(times).double() / process.steps, rtol=0, atol=1e-12)


def test_karras_is_edm_s_table():
    # EDM's 18 steps as its formula gives them, and the process's own grid.
    sigmas = EDM().coefficients(Karras()(EDM(), 18))[1]
    i = torch.arange(18, dtype=torch.float64)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigmas[:-1], expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(Karras()(EDM(), 18), EDM().grid(18), rtol=1e-9, atol=1e-12)


def test_karras_on_another_process_has_the_same_noise_to_signal_ratios():
    alpha, sigma = VP().coefficients(Karras(sigma_max=10)(VP(), 12)[1:-1])
    i = torch.arange(1, 12, dtype=torch.float64)
    expected = (10 ** (1 / 7) + i / 11 * (0.002 ** (1 / 7) - 10 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma / alpha, expected, rtol=1e-6, atol=0)


def test_all_steps_of_a_discrete_process_are_taken_where_all_are_asked_for():
    for grid in GRIDS:
        assert indices(grid(Linear(), 1000)) == list(range(999, -1, -1))
        with pytest.raises(ValueError, match=r"sampler.steps=1001 is not possible: the process has 1000"):
            grid(Linear(), 1001)


def test_the_shift_multiplies_the_ratio_of_the_straight_path():
    t = Shifted(3.0)(Flow(), 10)[1:-1]
    plain = Flow().grid(10)[1:-1]
    torch.testing.assert_close(t / (1 - t), 3 * plain / (1 - plain))
    assert torch.equal(Shifted(1.0)(Flow(), 10), Flow().grid(10))


def test_respacing_is_adm_s():
    taken = indices(Respaced("250")(Linear(), 250))
    assert taken == [round(i * 999 / 249) for i in range(249, -1, -1)]
    assert taken[-5:] == [16, 12, 8, 4, 0]
    assert indices(Respaced("ddim50")(Linear(), 50)) == list(range(980, -1, -20))
    sections = indices(Respaced("10,15,20")(Linear(steps=1000), 45))[::-1]
    assert sections[:10] == [round(i * 333 / 9) for i in range(10)]
    assert sections[10:25] == [334 + round(i * 332 / 14) for i in range(15)]
    assert sections[25:] == [667 + round(i * 332 / 19) for i in range(20)]


@pytest.mark.parametrize(
    ("spacing", "process", "steps", "text"),
    [
        ("10,15,20", Linear(), 50, r"takes 45 steps and sampler.steps=50. Pass sampler.steps=45"),
        ("ddim300", Linear(), 300, r"no whole stride takes 300 of 1000 steps"),
        ("400,1", Linear(steps=500), 401, r"section 1 has 250 steps and cannot give 400"),
        ("10", Flow(), 10, r"this one is continuous. Use grid=uniform"),
    ],
)
def test_impossible_spacings_are_refused(spacing, process, steps, text):
    with pytest.raises(ValueError, match=text):
        Respaced(spacing)(process, steps)


@pytest.mark.parametrize("spacing", ["", "10,", "ddim", "0", "ddim0", "10.5", "a"])
def test_what_is_no_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match=r"must be like 250, 10,15,20 or ddim50"):
        Respaced(spacing)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match=r"grid.sigma_min=2, grid.sigma_max=1"):
        Karras(sigma_min=2, sigma_max=1)
    with pytest.raises(ValueError, match=r"grid.shift=0 must be above 0"):
        Shifted(0)

"""Error of every sampler against network evaluations, on data whose denoiser is known exactly.

Samplers without noise: a mixture of three Gaussians in the plane; the root mean square distance of their
samples from the exact solution of the ODE with the same start. Samplers with noise: Gaussian data, on which
the distribution of their samples is Gaussian too and known without drawing any; its Wasserstein distance from
the data, with ddim beside them. All on grid=karras.
Run: python -m benchmarks.solver_error [folder]    (draws solver_error.png, prints tables)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from oracle import Gaussian, Mixture, denoiser, moments
from torch import Tensor

from dit_exp.grid.karras import Karras
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.vp import VP
from dit_exp.sampler.adams import Adams
from dit_exp.sampler.ddim import DDIM
from dit_exp.sampler.ddpm import DDPM
from dit_exp.sampler.dpmpp_1 import DPMSolver1
from dit_exp.sampler.dpmpp_2m import DPMSolver2M
from dit_exp.sampler.dpmpp_3m import DPMSolver3M
from dit_exp.sampler.dpmpp_sde import DPMSolverSDE
from dit_exp.sampler.euler import Euler
from dit_exp.sampler.euler_ancestral import EulerAncestral
from dit_exp.sampler.heun import Heun
from dit_exp.sampler.sde import ReverseSDE
from dit_exp.sampler.unipc import UniPC
from dit_exp.sampler.walk import Sampler
from dit_exp.types.diffusion import Process

MEANS = torch.tensor([[-1.0, 0.5], [0.8, 0.2], [0.1, -0.9]], dtype=torch.float64).reshape(3, 1, 1, 2)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
PROCESSES = {"flow": Flow(), "vp": VP(), "edm": EDM()}
Make = Callable[[int], Sampler]
Table = dict[str, dict[str, dict[str, list[float]]]]
WITHOUT_NOISE: dict[str, Make] = {
    "ddim": lambda n: DDIM(n, clip=False),
    "dpmpp_1": DPMSolver1,
    "euler": Euler,
    "heun": Heun,
    "adams (order 3)": Adams,
    "dpmpp_2m": DPMSolver2M,
    "dpmpp_3m": DPMSolver3M,
    "unipc (order 2)": UniPC,
}
WITH_NOISE: dict[str, Make] = {
    "ddpm": lambda n: DDPM(n, clip=False),
    "euler_ancestral": EulerAncestral,
    "sde": ReverseSDE,
    "dpmpp_sde": DPMSolverSDE,
    "heun (churn n / 5)": lambda n: Heun(n, churn=n / 5, churn_noise=1.0),
    "ddim": lambda n: DDIM(n, clip=False),
}
EVALUATIONS = (5, 7, 11, 15, 21, 31, 51, 101, 201)
FROM_SOLUTION, FROM_DATA = "distance from the ODE's solution", "distance from the data"


def sampler_with(make: Make, evaluations: int) -> Sampler:
    """The sampler of most steps within a number of evaluations."""
    samplers = [make(n) for n in range(1, evaluations + 1)]
    return [sampler for sampler in samplers if sampler.evaluations <= evaluations][-1]


def starts(process: Process) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return process.prior_scale * torch.randn(256, 1, 1, 2, generator=g, dtype=torch.float64)


def solution(process: Process) -> Tensor:
    """Where the ODE carries the starts, in steps of fourth order too small to err visibly."""
    fine = Karras(sigma_min=1e-4, sigma_max=1e4)(process, 3000)
    return Adams(3000, 4)(
        denoiser(Mixture(process, MEANS, WEIGHTS)), starts(process), process, no_noise, fine
    )


def no_noise() -> Tensor:
    raise AssertionError("This sampler draws no noise.")


def from_solution(sampler: Sampler, process: Process, exact: Tensor) -> float:
    denoise = denoiser(Mixture(process, MEANS, WEIGHTS))
    out = sampler(denoise, starts(process), process, no_noise, Karras()(process, sampler.steps))
    return float((out - exact).square().sum((1, 2, 3)).mean().sqrt())


def from_data(sampler: Sampler, process: Process) -> float:
    oracle = Gaussian(process)
    mean, std = moments(sampler, oracle, Karras()(process, sampler.steps))
    return math.hypot(mean - oracle.mean, std - oracle.std)


def measure() -> Table:
    """Errors by kind, process and sampler, one for each number of evaluations."""
    table: Table = {FROM_SOLUTION: {}, FROM_DATA: {}}
    for path, process in PROCESSES.items():
        exact = solution(process)
        table[FROM_SOLUTION][path] = {
            name: [from_solution(sampler_with(make, n), process, exact) for n in EVALUATIONS]
            for name, make in WITHOUT_NOISE.items()
        }
        table[FROM_DATA][path] = {
            name: [from_data(sampler_with(make, n), process) for n in EVALUATIONS]
            for name, make in WITH_NOISE.items()
        }
    return table


def draw(table: Table, path: Path) -> None:
    import matplotlib.pyplot as plt

    markers = "osv^DPX*"
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), sharex=True, sharey="row", layout="constrained")
    for row, (kind, by_process) in zip(axes, table.items(), strict=True):
        for axis, (process, lines) in zip(row, by_process.items(), strict=True):
            for i, (name, errors) in enumerate(lines.items()):
                # Samplers that take the same steps share a line, so the markers of later ones are smaller.
                style = {
                    "marker": markers[i],
                    "markersize": max(5, 14 - 3 * i),
                    "color": f"C{i}",
                    "label": name,
                }
                axis.loglog(EVALUATIONS, errors, **style)
            axis.set_title(f"process={process}")
            axis.grid(alpha=0.3, which="both")
        row[0].set_ylabel(kind)
        row[-1].legend(loc="lower left", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("network evaluations")
        axis.set_xticks(EVALUATIONS, [str(n) for n in EVALUATIONS])
        axis.minorticks_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    table = measure()
    draw(table, Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images") / "solver_error.png")
    for kind, by_process in table.items():
        for process, lines in by_process.items():
            print(f"\n{kind}, process={process}\n\n| sampler | " + " | ".join(map(str, EVALUATIONS)) + " |")
            print("|---|" + "---|" * len(EVALUATIONS))
            for name, errors in lines.items():
                print(f"| {name} | " + " | ".join(f"{error:.1e}" for error in errors) + " |")


if __name__ == "__main__":
    main()

"""Every process x prediction x weighting x timesteps takes a training step, and the losses are least where
the exact denoiser says they are.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from composing import CONF
from hydra.utils import instantiate
from omegaconf import OmegaConf
from oracle import Mixture, network

from dit_exp.objective.prediction import per_image
from dit_exp.sampler.denoise import on_process_time
from dit_exp.types.diffusion import Process

PROCESSES, OBJECTIVES, WEIGHTINGS, TIMESTEPS = (
    sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    for group in ("process", "objective", "weighting", "timesteps")
)
NO_SIGNAL, NO_STEPS = {"flow", "gvp"}, {"flow", "gvp", "vp", "subvp", "edm"}


def refused(process: str, objective: str) -> bool:
    return (objective == "eps" and process in NO_SIGNAL) or (
        objective == "eps_hybrid" and process in NO_STEPS
    )


PREDICTIONS = [objective for objective in OBJECTIVES if objective != "classification"]
PAIRS = [pair for pair in itertools.product(PROCESSES, PREDICTIONS) if not refused(*pair)]


def part(group: str, choice: str):
    """What conf/GROUP/CHOICE.yaml builds, without the keys that other groups fill."""
    config = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    assert isinstance(config, dict)
    return instantiate({k: v for k, v in config.items() if not str(v).startswith("${")})


def made(process: Process, objective: str, weighting: str = "none", timesteps: str = "uniform"):
    given = {"timesteps": part("timesteps", timesteps), "weighting": part("weighting", weighting)}
    return part("objective", objective)(process=process, **given)


@pytest.mark.parametrize(("process", "objective"), PAIRS)
def test_every_weighting_and_distribution_of_times_takes_a_step(process, objective):
    torch.manual_seed(0)
    x0 = 0.5 * torch.randn(16, 1, 2, 2)
    path = part("process", process)
    for weighting, timesteps in itertools.product(WEIGHTINGS, TIMESTEPS):
        ours = made(path, objective, weighting, timesteps)
        model = torch.nn.Conv2d(1, ours.outputs, 1)
        loss = ours.loss(on_process_time(lambda x, t, y: model(x), path), x0, None)  # noqa: B023
        loss.mean().backward()
        ours.learn()
        assert loss.shape == (16,), (weighting, timesteps)
        assert loss.isfinite().all(), (weighting, timesteps)
        for p in (*model.parameters(), *ours.parameters()):
            assert p.grad.isfinite().all(), (weighting, timesteps)
            assert p.grad.abs().sum() > 0, (weighting, timesteps)


@pytest.mark.parametrize(("process", "objective"), [pair for pair in PAIRS if pair[1] != "eps_hybrid"])
def test_what_the_exact_denoiser_misses_of_the_target_is_unrelated_to_what_it_saw(process, objective):
    """So it is where the squared error is least: no function of x_t added to it takes any more away."""
    path = part("process", process)
    means = torch.tensor([-0.6, 0.7], dtype=torch.float64).reshape(2, 1, 1, 1)
    oracle = Mixture(path, means, torch.tensor([0.4, 0.6], dtype=torch.float64), std=0.2)
    ours = made(path, objective)
    g, n = torch.Generator().manual_seed(0), 40_000
    x0, _ = oracle.sample(n, g)
    noise = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    for u in (0.4, 0.7, 1.0):
        t = path.times(torch.full((n,), u, dtype=torch.float64))
        alpha, sigma = (per_image(v, x0) for v in path.coefficients(t))
        x_t = alpha * x0 + sigma * noise
        missed = network(oracle, ours)(x_t, t, None) - ours.target(x0, noise, t)
        for seen in (torch.ones_like(x_t), x_t, x_t.square(), x_t.sin()):
            products = (missed * seen).flatten()
            assert abs(float(products.mean())) <= 4 * float(products.std()) / n**0.5 + 1e-12


def test_the_learned_uncertainty_finds_the_exact_denoiser_s_error_at_every_time():
    """Trained against the exact denoiser, u is the logarithm of the loss that no network can avoid."""
    path = part("process", "flow")
    means = torch.tensor([-0.6, 0.7], dtype=torch.float64).reshape(2, 1, 1, 1).float()
    oracle = Mixture(path, means, torch.tensor([0.4, 0.6]), std=0.2)
    ours = made(path, "v", "uncertainty", "stratified")
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.05)
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 600)
        optimizer.zero_grad()
        ours.loss(network(oracle, ours), oracle.sample(512, g)[0], None).mean().backward()
        optimizer.step()
    plain = made(path, "v")
    for u in (0.1, 0.5, 0.9):
        t = torch.full((100_000,), u)
        x0, _ = oracle.sample(len(t), g)
        noise = torch.randn(x0.shape, generator=g)
        x_t = (1 - u) * x0 + u * noise
        truth = plain.error(network(oracle, plain)(x_t, t, None), x0, noise, x_t, t).mean().log()
        learned = ours.weighting.log_error(*path.coefficients(t[:1]))
        assert learned.item() == pytest.approx(truth.item(), abs=0.15)

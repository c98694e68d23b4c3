"""Bits per dimension of held-out images: what they are, of what, and that they depend on nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from composing import composed

from dit_exp import parallel
from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.grid.karras import Karras
from dit_exp.images import to_uint8
from dit_exp.probe.rademacher import Rademacher
from dit_exp.seeds import streams
from dit_exp.task.likelihood import bits_per_dimension, dequantised, likelihood, measured
from dit_exp.task.train import train

TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "process=flow", "objective=v",
    "sampler.steps=4", "model.width=32", "model.depth=1", "model.heads=4", "trainer.max_steps=30",
    "trainer.batch_size=16", "trainer.warmup_steps=0", "optimizer.lr=1e-2", "trainer.ema_decay=0",
]  # fmt: skip


def parts(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed([*TINY, *overrides])
    return build(cfg, choices, [*TINY, *overrides], run_dir)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("likelihood")
    train(parts(folder / "trained"))
    return parts(folder / "measured", "task=likelihood", f"checkpoint={folder / 'trained'}")


def bits(run, batch_size: int = 6, images: int = 6, steps: int = 5, probes: int = 1) -> torch.Tensor:
    times = Karras()(run.process, steps + 1)[:-1]
    return measured(run, times, Rademacher(), images, probes, batch_size)


def test_the_uniform_density_costs_8_bits():
    dimensions, width = 192, 256 / 127.5  # of the 256 bins
    log_density = torch.tensor([-dimensions * math.log(width)], dtype=torch.float64)
    assert float(bits_per_dimension(log_density, dimensions)) == pytest.approx(8, abs=1e-12)


def test_dequantised_levels_fill_their_bins_and_round_back():
    levels = torch.arange(256, dtype=torch.uint8)
    for u in (0.001, 0.5, 0.999):
        assert torch.equal(to_uint8(dequantised(levels, torch.full((256,), u))), levels)
    low, high = (dequantised(levels, torch.full((256,), u)) for u in (0.0, 1.0))
    torch.testing.assert_close(high[:-1], low[1:])  # no gap and no overlap
    assert float(low[0]) == pytest.approx(-1 - 1 / 255)
    assert float(high[-1]) == pytest.approx(1 + 1 / 255)


def test_a_network_that_says_nothing_gives_the_prior_s_bits(tmp_path: Path):
    """A new DiT answers 0, so v = noise - x0 = 0: the ODE stands still and p is the prior itself."""
    run = parts(tmp_path / "new", "task=likelihood")
    run.model.eval()
    u = torch.stack([torch.rand(3, 8, 8, generator=g) for g in streams("likelihood", 0, range(6))])
    [images] = run.data.images("test", 6)
    x = dequantised(images, u).double()
    alpha = 1 / 1.002  # the straight path where sigma / alpha is 0.002
    log_p = torch.distributions.Normal(0, 1).log_prob(alpha * x).flatten(1).sum(1) + 192 * math.log(alpha)
    torch.testing.assert_close(bits(run), bits_per_dimension(log_p, 192), rtol=1e-6, atol=1e-6)


def test_the_number_of_an_image_does_not_depend_on_its_company(run):
    together = bits(run, batch_size=6)
    torch.testing.assert_close(bits(run, batch_size=4), together, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bits(run, batch_size=2, images=3), together[:3], rtol=1e-5, atol=1e-5)


def test_processes_take_shares(run, monkeypatch: pytest.MonkeyPatch):
    alone, shares = bits(run, batch_size=2), []
    for rank in (1, 0):
        monkeypatch.setattr(parallel, "world", lambda rank=rank: parallel.World(rank, 2))
        monkeypatch.setattr(parallel, "gathered", lambda share: shares.append(share) or shares)
        found = bits(run, batch_size=2)
    assert [sorted(share) for share in shares] == [[2], [0, 4]]
    assert torch.equal(found, alone)


def test_a_label_is_the_image_s_own(run):
    with_labels, labels = bits(run), run.data.labels
    run.data.labels = lambda split: (labels(split) + 1) % 10
    try:
        assert not torch.allclose(bits(run), with_labels, rtol=1e-4)
    finally:
        run.data.labels = labels


def test_metrics_hold_the_mean_its_error_and_the_protocol(run):
    mean = likelihood(run, Rademacher(), images=6, steps=5, batch_size=4)
    metrics = json.loads((run.run_dir / "metrics.json").read_text())
    each = bits(run, batch_size=4)
    assert metrics["scores"] == {"bits_per_dimension": mean}
    assert mean == pytest.approx(float(each.mean()))
    error = metrics["standard_error"]["bits_per_dimension"]
    assert error == pytest.approx(float(each.std()) / math.sqrt(6))
    wanted = {
        "n": 6,
        "split": "test",
        "step": 30,
        "nfe": 10,
        "probe": {"name": "rademacher"},
        "probes": 1,
        "sigma_min": 0.002,
        "dequantisation": "uniform",
        "precision": "fp32",
        "labels": "of the images",
        "seed": 0,
    }
    assert {key: metrics["protocol"][key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"images": 1}, r"task.images=1 must be from 2 to 297, the images of the test split"),
        ({"images": 298}, r"task.images=298 must be from 2 to 297"),
        ({"steps": 0}, r"task.steps=0 and task.probes=1 must be at least 1"),
        ({"sigma_min": 0.0}, r"task.sigma_min=0.0 above 0"),
    ],
)
def test_impossible_numbers_are_refused(run, given, text):
    with pytest.raises(UserError, match=text):
        likelihood(run, Rademacher(), **given)


def test_more_steps_than_a_discrete_process_has_are_refused(tmp_path: Path):
    run = parts(
        tmp_path / "discrete", "task=likelihood", "process=linear", "process.steps=50", "sampler.steps=4"
    )
    run.source = {"step": 1}
    with pytest.raises(UserError, match=r"task.steps=50 must be below 50, the steps of the process"):
        likelihood(run, Rademacher(), steps=50)


def test_what_has_no_likelihood_is_refused(tmp_path: Path):
    run = parts(tmp_path / "guided", "task=likelihood", "guidance=cfg")
    with pytest.raises(UserError, match=r"task=likelihood needs a trained model. Pass checkpoint=RUN_DIR"):
        likelihood(run, Rademacher())
    run.source = {"step": 1}
    with pytest.raises(UserError, match=r"guidance=cfg has no likelihood: .*Pass guidance=none"):
        likelihood(run, Rademacher())
    run.autoencoder = object()
    with pytest.raises(
        UserError, match=r"task=likelihood is for pixels, and autoencoder=identity makes late"
    ):
        likelihood(run, Rademacher())

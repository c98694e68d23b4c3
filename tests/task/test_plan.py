"""A plan's figures are the run's own, its sums are done by hand, and it leaves nothing but plan.json."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path

import pytest
import torch
from composing import composed

from dit_exp import parallel
from dit_exp.build import build
from dit_exp.data.feed import ArrayFeed
from dit_exp.ema import averaged
from dit_exp.errors import UserError
from dit_exp.parallel import World
from dit_exp.sampler.reuse.network import Silent
from dit_exp.sweep.partition import limit_minutes, parse
from dit_exp.task import measure
from dit_exp.task.measure import Speed, held
from dit_exp.task.plan import Extra, duration, estimate, plan, table
from dit_exp.task.train import train
from dit_exp.trainer.state import TrainState

TINY = [
    "task=plan", "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler.steps=4",
    "model.width=32", "model.depth=1", "model.heads=4", "trainer.batch_size=16",
]  # fmt: skip


def parts(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed([*TINY, *overrides])
    return build(cfg, choices, [], run_dir)


def stored(folder: Path) -> dict:
    return json.loads((folder / "plan.json").read_text())


def test_size_and_cost_are_those_that_the_run_reports(tmp_path: Path):
    plan(parts(tmp_path / "plan"), steps=1, warmup=0, batch_size=2)
    train(parts(tmp_path / "run", "task=train", "trainer.max_steps=1"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    planned = stored(tmp_path / "plan")
    assert (planned["parameters"], planned["gmac"]) == (metrics["parameters"], metrics["gmac"])


def test_a_preset_has_its_published_size(tmp_path: Path):
    # DiT-S/4 of the paper's table 4: 33 M parameters and 1.41 "Gflops" at 32 x 32 x 4; here 3 channels.
    cfg, choices = composed(["task=plan", "model=dit_s", "data=digits", "data.image_size=32", *TINY[3:6]])
    run = build(cfg, choices, [], tmp_path)
    run.trainer.batch_size = 1
    plan(run, steps=1, warmup=0, batch_size=1)
    assert stored(tmp_path)["parameters"] / 1e6 == pytest.approx(33, abs=1)
    assert stored(tmp_path)["gmac"] == pytest.approx(1.41, rel=0.02)


@pytest.mark.parametrize(("decay", "copies"), [(0.999, 5), (0.0, 4)])
def test_memory_between_steps_is_weights_gradients_two_moments_and_the_average(tmp_path, decay, copies):
    run = parts(tmp_path, f"trainer.ema_decay={decay}")
    ema = averaged(run.model, decay) if decay else None
    optimizer = run.optimizer(run.model.parameters())
    state = TrainState(run.model, ema, run.objective, optimizer, lambda module: module)
    run.model(torch.randn(2, 3, 8, 8), torch.ones(2), torch.tensor([0, 1])).sum().backward()
    state.optimizer.step()
    tensors = list(run.model.parameters())
    weights = sum(p.numel() for p in tensors)
    position = run.model.position.numel()  # a table that is not trained: in the model and in the average
    extra = 4 * len(tensors) + (4 * position * 2 if decay else 4 * position)  # AdamW's count of steps
    assert held(state) == 4 * copies * weights + extra


def sums(run, speed: Speed | None = None, **given):
    given = {"seconds_per_sample": 0.5, "extra": Extra(), "limit": None, "price_per_hour": 0.0} | given
    return estimate(run, 1000, 0.5, speed or Speed(80.0, 1.0, 0.5), **given)


def test_the_time_of_a_run_is_its_steps_and_its_samples(tmp_path: Path):
    run = parts(tmp_path, "trainer.max_steps=3000", "trainer.sample_every=1000")
    run.metrics.num_samples = 1000
    made = sums(run, price_per_hour=6.0)
    assert made.train_minutes == pytest.approx(3000 * 16 / 80 / 60)
    assert made.score_minutes == pytest.approx(
        0.5 * (1000 + 4 * 40) / 60
    )  # three grids on the way, one at the end
    assert made.total_minutes == pytest.approx(10 + 9 + 2 / 3)
    assert made.cost == pytest.approx(6.0 * made.total_minutes / 60)
    assert (made.steps, made.images) == (3000, 48_000)
    assert sums(run).cost is None


def test_scores_and_validations_on_the_way_are_counted(tmp_path: Path):
    run = parts(tmp_path, "trainer.max_steps=3000", "trainer.sample_every=0")
    run.metrics.num_samples = 1000
    made = sums(run, extra=Extra(score_every=1000, score_samples=200, validation_images=600))
    drawn, validated = 1000 + 3 * 200 + 40, 4 * 600
    assert made.score_minutes == pytest.approx((0.5 * drawn + validated / (3 * 80)) / 60)
    passes = sums(run, extra=Extra(score_epochs=10))  # three times 15,000 in 48,000 images
    assert passes.score_minutes == pytest.approx(0.5 * (4 * 1000 + 40) / 60)
    every = sums(run, extra=Extra(score_every=1500))
    assert every.score_minutes == pytest.approx(0.5 * (3 * 1000 + 40) / 60)


def test_processes_share_the_images_that_are_scored_and_not_those_that_are_shown(tmp_path, monkeypatch):
    run = parts(tmp_path, "trainer.max_steps=3000", "trainer.sample_every=1000")
    run.metrics.num_samples = 1000
    extra = Extra(score_every=1000, score_samples=200, validation_images=600)
    alone = sums(run, extra=extra, limit=1.0)
    monkeypatch.setattr(parallel, "world", lambda: World(0, 4))
    made = sums(run, extra=extra, limit=1.0)  # 80 images a second are already of all four
    assert made.train_minutes == alone.train_minutes == pytest.approx(10)
    drawn, shown, validated = 1000 + 3 * 200, 4 * 40, 4 * 600
    assert made.score_minutes == pytest.approx((0.5 * (drawn / 4 + shown) + validated / (3 * 80)) / 60)
    assert "Drawing 1760 samples alone takes longer" in made.change
    assert "(below 24) first" in alone.change  # a fifth of a minute, at half a second each
    assert "(below 96) first" in made.change


def test_a_batch_that_the_processes_cannot_share_is_refused_as_in_training(tmp_path, monkeypatch):
    run = parts(tmp_path / "run", "trainer.batch_size=64")
    monkeypatch.setattr(parallel, "world", lambda: World(0, 3))
    with pytest.raises(UserError, match=r"batch_size=64 does not divide by 3 processes .* a multiple of 3"):
        plan(run, steps=1, warmup=0, batch_size=2)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_main_process_alone_writes_the_plan(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(measure, "training", lambda *given: Speed(80.0, 1.0, 0.5))
    monkeypatch.setattr(measure, "sampling", lambda *given: 0.5)
    run = parts(tmp_path / "run", "trainer.max_steps=10")
    for rank in (1, 0):
        monkeypatch.setattr(parallel, "world", lambda rank=rank: World(rank, 2))
        assert plan(run) == sums(run).total_minutes
        assert (tmp_path / "run" / "plan.json").exists() == (rank == 0)


def test_a_budget_in_minutes_is_its_own_time_and_the_smaller_budget_holds(tmp_path: Path):
    timed = parts(tmp_path, "trainer.max_steps=null", "trainer.max_minutes=2", "trainer.sample_every=0")
    made = sums(timed)
    assert (made.train_minutes, made.steps) == (2.0, 600)  # 80 images a second are 5 steps of 16
    both = parts(tmp_path, "trainer.max_steps=300", "trainer.max_minutes=2")
    assert (sums(both).train_minutes, sums(both).steps) == (1.0, 300)


def test_a_budget_in_epochs_is_planned_in_steps(tmp_path: Path):
    run = parts(tmp_path, "trainer.max_epochs=2")  # of 1,500 images
    assert (sums(run).steps, sums(run).images) == (188, 188 * 16)


def test_a_run_that_does_not_fit_says_what_would(tmp_path: Path):
    run = parts(tmp_path, "trainer.max_steps=30000", "trainer.sample_every=0")
    made = sums(run, limit=60.0)
    assert not made.fits
    assert "1 h 40 min do not fit into 60 min. trainer.max_steps=17900 would" in made.change
    run.trainer.max_steps = 17900
    assert sums(run, limit=60.0).fits
    assert sums(run, limit=60.0).change is None
    run.trainer.max_steps = 18000
    assert not sums(run, limit=60.0).fits


def test_samples_that_alone_take_longer_than_the_limit_are_named(tmp_path: Path):
    run = parts(tmp_path, "trainer.max_steps=1", "trainer.sample_every=0")
    run.metrics.num_samples = 50_000
    assert (
        "Drawing 50040 samples alone takes longer: lower metrics.num_samples" in sums(run, limit=60.0).change
    )


def test_a_plan_leaves_plan_json_and_no_run(tmp_path: Path, caplog):
    run = parts(tmp_path / "run")
    run.tracker.start = None  # neither is the tracker touched
    with caplog.at_level(logging.INFO):
        minutes = plan(run, steps=2, warmup=1, batch_size=2, price_per_hour=3.0, limit_minutes=1e6)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.json"]
    values = stored(tmp_path / "run")
    assert values["total_minutes"] == minutes
    assert values["fits"] is True
    assert values["images_per_second"] == pytest.approx(100_000 * 16 / values["train_minutes"] / 60)
    assert values["cost"] == pytest.approx(3 * minutes / 60)
    assert "fits           yes" in caplog.text


def test_the_timed_steps_are_training_steps(tmp_path: Path):
    run = parts(tmp_path, "trainer.accumulate=2", "optimizer.lr=1e-2")
    before = [p.clone() for p in run.model.parameters()]
    batches = []
    step = run.trainer.train_step
    run.trainer.train_step = lambda *given: batches.append(len(given[4].image)) or step(*given)
    measure.training(run, steps=2, warmup=1)
    assert batches == [16, 16, 16]
    assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_sampling_is_timed_by_the_step_and_multiplied_by_the_steps(tmp_path: Path, monkeypatch):
    clock = iter(range(1000))
    calls = []
    monkeypatch.setattr(measure, "_now", lambda device: float(next(clock)))
    run = parts(tmp_path, "sampler.steps=10")
    denoised = run.objective.denoised
    run.objective.denoised = lambda *given: calls.append(1) or denoised(*given)
    # A tick for three steps, and one for decoding: (1 / 3 x 10 + 1) / 4.
    assert measure.sampling(run, 4) == pytest.approx((10 / 3 + 1) / 4)
    assert len(calls) == 3 + 3 + 3 + 10  # twice the network, and twice what only counts
    one = parts(tmp_path, "sampler.steps=1")
    assert measure.sampling(one, 4) == pytest.approx((1 + 1) / 4)


def test_steps_in_which_guidance_is_on_are_timed_as_of_two_images(tmp_path: Path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(measure, "_now", lambda device: float(next(clock)))
    words = ("process=flow", "objective=v", "sampler=euler", "sampler.steps=10")
    # Steps start at t = 1, 0.9, ..., 0.1. Guidance is on from 0.6 down: in none of the first three, in six.
    run = parts(tmp_path, *words, "guidance=interval", "guidance.interval=[0.05,0.65]")
    assert measure.sampling(run, 4) == pytest.approx(((4 + 2 * 6) / 3 + 1) / 4)
    whole = parts(tmp_path, *words, "guidance=cfg")
    assert measure.sampling(whole, 4) == pytest.approx((10 / 3 + 1) / 4)


def test_a_plan_times_images_that_are_held_on_the_device(tmp_path: Path, monkeypatch):
    held = []
    whole = ArrayFeed.on
    monkeypatch.setattr(ArrayFeed, "on", lambda self, device: held.append(device) or whole(self, device))
    measure.training(parts(tmp_path, "trainer.resident_data=true"), steps=1, warmup=0)
    measure.training(parts(tmp_path), steps=1, warmup=0)
    assert held == [torch.device("cpu")]


def test_sampling_is_timed_with_the_weights_that_draw(tmp_path: Path, monkeypatch):
    asked = []
    whole = measure.trajectory
    monkeypatch.setattr(measure, "trajectory", lambda *given: asked.append(given[1]) or whole(*given))
    run = parts(tmp_path, "trainer.precision=bf16")
    measure.sampling(run, 2)
    networks = [network for network in (*asked, run.model) if not isinstance(network, Silent)]
    dtypes = [network.blocks[0].mlp.inner.weight.dtype for network in networks]
    assert dtypes == [torch.bfloat16, torch.bfloat16, torch.float32]


PARTITION = """PartitionName=gpu
   AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL
   AllocNodes=ALL Default=NO QoS=N/A
   DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO
   MaxNodes=UNLIMITED MaxTime={} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED
   OverTimeLimit=NONE PreemptMode=OFF
"""


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("1-00:00:00", 1440.0), ("UNLIMITED", math.inf), ("00:30:00", 30.0), ("2-12:15:30", 3615.5),
        ("100:00:00", 6000.0),
    ],
)  # fmt: skip
def test_the_limit_of_a_partition_is_its_longest_time(text: str, minutes: float):
    assert parse(PARTITION.format(text)) == minutes


def test_what_scontrol_prints_otherwise_is_refused():
    for text in ("", PARTITION.format("soon")):
        with pytest.raises(UserError, match=r"no MaxTime that can be read.*task.limit_minutes"):
            parse(text)


def scontrol(folder: Path, body: str, monkeypatch) -> None:
    program = folder / "scontrol"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_partition_is_asked_for_by_name(tmp_path: Path, monkeypatch):
    scontrol(
        tmp_path,
        'echo "PartitionName=$3 $1 $2 MaxTime=00:10:00"; test "$*" = "show partition gpu"',
        monkeypatch,
    )
    assert limit_minutes("gpu") == 10
    run = parts(tmp_path / "run", "trainer.max_steps=1")
    plan(run, steps=1, warmup=0, batch_size=2, partition="gpu")
    assert stored(tmp_path / "run")["limit_minutes"] == 10
    plan(run, steps=1, warmup=0, batch_size=2, partition="gpu", limit_minutes=4.0)
    assert stored(tmp_path / "run")["limit_minutes"] == 4


def test_an_unlimited_partition_fits_everything(tmp_path: Path, monkeypatch):
    scontrol(tmp_path, "echo MaxTime=UNLIMITED", monkeypatch)
    plan(parts(tmp_path / "run"), steps=1, warmup=0, batch_size=2, partition="cpu")
    assert stored(tmp_path / "run")["limit_minutes"] is None
    assert stored(tmp_path / "run")["fits"] is True


def test_a_partition_that_cannot_be_looked_up_is_one_sentence(tmp_path: Path, monkeypatch):
    scontrol(tmp_path, "echo Partition gpu not found >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"scontrol says 'Partition gpu not found'.*task.limit_minutes"):
        limit_minutes("gpu")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="scontrol, which is not on this machine"):
        limit_minutes("gpu")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"steps": 0}, "task.steps=0 must be at least 1"),
        ({"price_per_hour": -1.0}, "task.price_per_hour=-1.0 must be 0 or more"),
        ({"limit_minutes": 0.0}, "task.limit_minutes=0.0 above 0"),
        ({"batch_size": 0}, "task.batch_size=0 must be at least 1"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(tmp_path: Path, given, text: str):
    with pytest.raises(UserError, match=text):
        plan(parts(tmp_path), **given)


def test_durations_are_short_and_the_table_shows_what_was_asked_for(tmp_path: Path):
    assert [duration(m) for m in (0.5, 2.3, 45.0, 200.0, 3120.0)] == [
        "30 s", "2.3 min", "45 min", "3 h 20 min", "2 d 4 h",
    ]  # fmt: skip
    run = parts(tmp_path, "trainer.max_steps=3000")
    plain = table(sums(run))
    assert "cost" not in plain
    assert "fits" not in plain
    assert "steps          3,000 (48,000 images)" in plain
    assert "limit          none" in table(sums(run, limit=math.inf))

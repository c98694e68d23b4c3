"""The training loop: exact resume, accumulation, budgets, and what it says when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dit_exp import checkpoint
from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.autoencoder.identity import Identity
from dit_exp.cond.adaln import AdaLNZero
from dit_exp.data.digits import Digits
from dit_exp.errors import Stopped, UserError
from dit_exp.lr_schedule.wsd import WarmupStableDecay
from dit_exp.model.dit import DiT
from dit_exp.objective.v import VelocityPrediction
from dit_exp.optimizer.adamw import adamw
from dit_exp.optimizer.muon import Muon
from dit_exp.process.flow import Flow
from dit_exp.sampler.denoise import on_process_time
from dit_exp.timesteps.importance import Importance
from dit_exp.timesteps.uniform import Uniform
from dit_exp.tracker.none import NoTracker
from dit_exp.trainer import loop
from dit_exp.trainer.batch import drop_labels
from dit_exp.trainer.history import read_rows
from dit_exp.trainer.loop import Trainer
from dit_exp.trainer.memory import PeakMemory
from dit_exp.weighting.uncertainty import Uncertainty

OBJECTIVE = VelocityPrediction(Flow(), Uniform())
DATA = Digits(image_size=8)


class Interrupting(NoTracker):
    """Does something to the run at a step."""

    def __init__(self, step: int, action) -> None:
        self.step, self.action = step, action

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.step:
            self.action()


def model() -> DiT:
    torch.manual_seed(0)
    return DiT((3, 8, 8), 3, 10, MultiHeadAttention, AdaLNZero, depth=1, width=16, heads=2, patch_size=4)


def fit(
    run_dir: Path,
    tracker=None,
    objective=OBJECTIVE,
    network=None,
    data=DATA,
    lr: float = 1e-3,
    visits=(),
    optimizer=adamw,
    **settings,
):
    settings = {"max_steps": 8, "batch_size": 16, "log_every": 1, "checkpoint_every": 3} | settings
    run_dir.mkdir(exist_ok=True)
    return Trainer(**settings).fit(
        model(),
        network or (lambda m: on_process_time(m, OBJECTIVE.process)),
        objective,
        Identity(),
        data,
        lambda parameters: optimizer(parameters, lr=lr),
        tracker or NoTracker(),
        run_dir,
        seed=0,
        config={"a": 1},
        choices={},
        visits=visits,
    )


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_run_that_broke_off_anywhere_ends_as_an_unbroken_one(tmp_path: Path, at: int):
    whole, trace = fit(tmp_path / "whole")

    def power_cut():
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        fit(tmp_path / "broken", Interrupting(at, power_cut))
    resumed, again = fit(tmp_path / "broken")
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    assert_same(whole.ema.state_dict(), resumed.ema.state_dict())
    assert trace.rows == again.rows == read_rows(tmp_path / "broken" / "history.jsonl")
    assert resumed.images == whole.images == 8 * 16


def test_the_peak_of_memory_is_the_steps_own(tmp_path: Path, monkeypatch):
    class Seen(NoTracker):
        def __init__(self) -> None:
            self.gib: list[float | None] = []

        def log(self, values: dict[str, float], step: int) -> None:
            self.gib.append(values.get("memory_gib"))

    def draw(_) -> None:
        torch.ones(2**30, dtype=torch.uint8)

    monkeypatch.setattr(PeakMemory, "_trained", False)  # as in a new process
    seen, later = Seen(), Seen()
    first, _ = fit(tmp_path / "first", seen, visits=[(3 * 16, draw)])
    assert first.memory_gib == pytest.approx(seen.gib[0], abs=0.5)
    assert seen.gib[-1] == pytest.approx(seen.gib[0], abs=0.5)
    second, _ = fit(tmp_path / "second", later)
    assert second.memory_gib is None
    assert set(later.gib) == {None}


def test_with_muon_too_a_run_that_broke_off_ends_as_an_unbroken_one(tmp_path: Path):
    def trained(name: str, tracker=None):
        objective = VelocityPrediction(Flow(), Uniform(), Uncertainty(channels=4))
        return fit(tmp_path / name, tracker, objective, optimizer=Muon, precision="bf16")

    def power_cut():
        raise ConnectionError("gone")

    whole, trace = trained("whole")
    with pytest.raises(ConnectionError):
        trained("broken", Interrupting(5, power_cut))
    resumed, again = trained("broken")
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    assert_same(whole.objective.state_dict(), resumed.objective.state_dict())
    assert trace.rows == again.rows
    momentum = [v["momentum_buffer"] for v in resumed.optimizer.state.values() if "momentum_buffer" in v]
    assert len(momentum) == 4


def test_a_profile_is_written_beside_the_run_and_changes_nothing(tmp_path: Path):
    plain, _ = fit(tmp_path / "plain")
    profiled, _ = fit(tmp_path / "profiled", profile=True)
    assert_same(plain.model.state_dict(), profiled.model.state_dict())
    table = (tmp_path / "profiled" / "profile.txt").read_text()
    assert "aten::addmm" in table
    assert (tmp_path / "profiled" / "trace.json").stat().st_size > 10_000
    assert not (tmp_path / "plain" / "profile.txt").exists()


def test_a_run_whose_images_lie_on_the_device_is_the_same_run(tmp_path: Path):
    plain, _ = fit(tmp_path / "plain")
    resident, _ = fit(tmp_path / "resident", resident_data=True)
    assert_same(plain.model.state_dict(), resident.model.state_dict())


def test_what_the_objective_learns_is_trained_and_resumed_too(tmp_path: Path):
    def learning() -> VelocityPrediction:
        return VelocityPrediction(Flow(), Importance(bins=4, history=2), Uncertainty(channels=4))

    objective = learning()
    whole, trace = fit(tmp_path / "whole", objective=objective, max_steps=12)
    assert bool((objective.weighting.gain != 0).any())
    assert bool((objective.timesteps.seen >= 2).all())
    assert not torch.allclose(objective.timesteps.probabilities(), torch.full((4,), 0.25))

    def power_cut():
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        fit(tmp_path / "broken", Interrupting(8, power_cut), objective=learning(), max_steps=12)
    again = learning()
    resumed, repeated = fit(tmp_path / "broken", objective=again, max_steps=12)
    assert_same(objective.state_dict(), again.state_dict())
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    assert trace.rows == repeated.rows


def test_without_resume_a_run_starts_anew(tmp_path: Path):
    fit(tmp_path, max_steps=4)
    state, history = fit(tmp_path, max_steps=2, resume=False)
    assert state.step == 2
    assert len(history.rows) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_a_message(tmp_path: Path, number: int):
    with pytest.raises(
        Stopped, match=rf"Stopped by {number.name} after step \d; the state is saved"
    ) as stopped:
        fit(tmp_path, Interrupting(4, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.code == 128 + number
    step = checkpoint.newest(tmp_path)[1]["step"]
    assert f"step {step};" in str(stopped.value)
    assert f"run_dir={tmp_path}" in str(stopped.value)
    assert fit(tmp_path)[0].step == 8


class Fixed(VelocityPrediction):
    """The same times and noise for an image wherever it stands in a batch."""

    def loss(self, network, x0, label):
        t = (x0.flatten(1).sum(1).abs() % 0.9) + 0.05
        noise = x0.flip(0, 1) if len(x0) == 0 else torch.sin(50 * x0)
        x_t = (1 - t)[:, None, None, None] * x0 + t[:, None, None, None] * noise
        return self.error(network(x_t, t, label), x0, noise, x_t, t)


def test_four_pieces_make_the_step_of_one_batch(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dit_exp.trainer.loop.drop_labels", lambda label, *_: label)
    objective = Fixed(Flow(), Uniform())
    one, trace = fit(tmp_path / "1", objective=objective, batch_size=64)
    four, pieces = fit(tmp_path / "4", objective=objective, batch_size=64, accumulate=4)
    for row, other in zip(trace.rows, pieces.rows, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-5)
        assert other["gradient_norm"] == pytest.approx(row["gradient_norm"], rel=1e-4)
    for key, value in one.model.state_dict().items():
        torch.testing.assert_close(four.model.state_dict()[key], value, rtol=1e-3, atol=1e-5)


def test_the_average_is_updated_once_a_step_however_many_pieces(tmp_path: Path):
    state, _ = fit(tmp_path, accumulate=4)
    assert int(state.ema.n_averaged) == 8


def test_warm_up_rises_evenly_to_the_learning_rate(tmp_path: Path):
    _, history = fit(tmp_path, warmup_steps=4, lr=1e-2)
    assert [row["learning_rate"] for row in history.rows] == pytest.approx(
        [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01, 0.01]
    )


def test_a_budget_in_minutes_ends_the_run(tmp_path: Path):
    state, _ = fit(tmp_path, max_steps=None, max_minutes=0.02, checkpoint_every=10_000)
    assert 1.2 <= state.seconds < 4
    assert checkpoint.newest(tmp_path)[1]["step"] == state.step


def test_a_budget_in_epochs_is_that_many_passes_over_the_images(tmp_path: Path):
    trainer = Trainer(max_steps=None, max_epochs=0.1, batch_size=16)
    assert trainer.steps(DATA) == 10  # 150 of 1,500 images in steps of 16
    assert Trainer(max_steps=7, max_epochs=0.1, batch_size=16).steps(DATA) == 7
    state, _ = fit(tmp_path, max_steps=None, max_epochs=0.05)
    assert (state.step, state.images) == (5, 80)


def test_the_learning_rate_follows_its_schedule_over_the_steps(tmp_path: Path):
    _, history = fit(tmp_path, warmup_steps=2, lr_schedule=WarmupStableDecay(0.5), lr=0.01)
    rates = [row["learning_rate"] for row in history.rows]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.01, 0.0075, 0.005, 0.0025])


def test_the_learning_rate_follows_its_schedule_over_the_minutes(tmp_path: Path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def network(model):
        inner = on_process_time(model, OBJECTIVE.process)

        def forward(x, t, y):
            clock.now += 1  # each step takes a second
            return inner(x, t, y)

        return forward

    def visit(_):
        clock.now += 100  # which does not count

    settings = {"max_steps": None, "max_minutes": 10 / 60, "warmup_steps": 0, "lr": 1.0}
    state, history = fit(
        tmp_path, network=network, lr_schedule=WarmupStableDecay(0.5), visits=[(64, visit)], **settings
    )
    rates = [row["learning_rate"] for row in history.rows]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert state.seconds == 10


def test_a_run_with_a_schedule_that_broke_off_ends_as_an_unbroken_one(tmp_path: Path):
    whole, trace = fit(tmp_path / "whole", lr_schedule=WarmupStableDecay(0.5))

    def power_cut():
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        fit(tmp_path / "broken", Interrupting(5, power_cut), lr_schedule=WarmupStableDecay(0.5))
    resumed, again = fit(tmp_path / "broken", lr_schedule=WarmupStableDecay(0.5))
    assert trace.rows == again.rows
    assert_same(whole.model.state_dict(), resumed.model.state_dict())


def test_visits_come_when_so_many_images_have_passed_be_it_within_a_step(tmp_path: Path):
    seen = []
    fit(tmp_path, visits=((40, lambda state: seen.append(state.step)), (0, lambda _: seen.append("never"))))
    assert seen == [3, 5, 8]  # 40, 80 and 120 of 128 images, 16 a step


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_last_good_checkpoint(tmp_path: Path):
    calls = []

    def network(m):
        inner = on_process_time(m, OBJECTIVE.process)

        def forward(x, t, y):
            calls.append(1)
            return inner(x, t, y) * (float("nan") if len(calls) == 5 else 1)

        return forward

    with pytest.raises(UserError) as stopped:
        fit(tmp_path, network=network, log_every=100, warmup_steps=0)
    assert "The loss is nan" in str(stopped.value)
    assert "at step 5 (learning rate 0.001)" in str(stopped.value)
    assert str(checkpoint.path_of(tmp_path, 3)) in str(stopped.value)
    assert "Lower optimizer.lr" in str(stopped.value)
    assert [row["step"] for row in read_rows(tmp_path / "history.jsonl")] == [1, 2, 3, 4]
    assert checkpoint.newest(tmp_path)[1]["step"] == 3


def test_a_full_disk_in_mid_run_keeps_the_old_checkpoint_and_the_run(tmp_path: Path, monkeypatch, caplog):
    real, full = checkpoint.save, [6]

    def save(state, path, keep):
        if state["step"] in full:
            raise OSError(28, "No space left on device")
        real(state, path, keep)

    monkeypatch.setattr(checkpoint, "save", save)
    state, _ = fit(tmp_path)
    assert state.step == 8
    assert "The checkpoint of step 6 could not be written" in caplog.text
    assert (
        "The checkpoint of step 3 is untouched. Training goes on and tries again in 3 steps." in caplog.text
    )

    full.append(10)
    with pytest.raises(UserError, match=r"step 10 could not be written.*step 8 is untouched. Make room"):
        fit(tmp_path, max_steps=10, checkpoint_every=100)
    assert checkpoint.newest(tmp_path)[1]["step"] == 8


def test_a_lower_step_is_saved_and_kept_beside_the_higher_ones_of_an_earlier_run(tmp_path: Path):
    fit(tmp_path, max_steps=6)
    state, _ = fit(tmp_path, max_steps=2, resume=False)
    path, stored = checkpoint.find(str(tmp_path))
    assert stored["step"] == 2
    assert torch.equal(stored["model"]["head.weight"], state.model.head.weight)
    assert sorted(p.name for p in path.parent.glob("*.aside")) == [
        "step_00000003.aside",
        "step_00000006.aside",
    ]


def test_where_no_checkpoint_is_whole_nothing_is_trained_over(tmp_path: Path):
    fit(tmp_path, max_steps=4, keep=1)
    trace = (tmp_path / "history.jsonl").read_bytes()
    checkpoint.path_of(tmp_path, 4).write_bytes(b"")
    with pytest.raises(UserError, match=r"None of the 1 checkpoints.*trainer.resume=false to start anew"):
        fit(tmp_path)
    assert (tmp_path / "history.jsonl").read_bytes() == trace


def test_a_changed_learning_rate_or_weight_decay_counts_from_the_resume_on(tmp_path: Path):
    fit(tmp_path, max_steps=4, warmup_steps=0)
    state, history = fit(tmp_path, warmup_steps=0, lr=5e-3)
    assert [row["learning_rate"] for row in history.rows] == [1e-3] * 4 + [5e-3] * 4
    assert state.optimizer.param_groups[0]["lr"] == 5e-3


def test_a_history_that_cannot_be_written_does_not_end_the_run(tmp_path: Path, caplog):
    def fill():
        (tmp_path / "history.jsonl").chmod(0o600)
        (tmp_path / "history.jsonl").rename(tmp_path / "history.away")

    def free():
        (tmp_path / "history.away").rename(tmp_path / "history.jsonl")

    class Both(NoTracker):
        def log(self, values, step):
            {2: fill, 5: free}.get(step, lambda: None)()

    state, history = fit(tmp_path, Both())
    assert state.step == 8
    assert "its rows are kept in memory" in caplog.text
    assert [row["step"] for row in history.rows] == list(range(1, 9))


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"1500.*fewer.*trainer.batch_size"):
        fit(tmp_path, batch_size=2000)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_steps": None}, "A run needs a budget. Set trainer.max_steps, trainer.max_epochs or"),
        ({"max_steps": 0}, "trainer.max_steps=0, .* must be above 0, or null for no limit"),
        ({"max_minutes": -1.0}, "trainer.max_minutes=-1.0 must be above 0, or null for no limit"),
        ({"batch_size": 10, "accumulate": 3}, "trainer.accumulate=3 must divide trainer.batch_size=10"),
        ({"keep": 0}, "must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, text: str):
    with pytest.raises(ValueError, match=text):
        Trainer(**settings)


def test_labels_are_dropped_image_by_image_at_the_asked_rate():
    torch.manual_seed(0)
    label = torch.arange(10).repeat(10_000)
    kept = drop_labels(label, 10, 0.1)
    dropped = kept == 10
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.004)
    per_batch = dropped.reshape(1000, 100).sum(1).float()
    assert float(per_batch.var()) == pytest.approx(100 * 0.1 * 0.9, rel=0.15)
    assert torch.equal(drop_labels(label, None, 0.1), label)
    assert torch.equal(kept[~dropped], label[~dropped])


def test_bfloat16_trains_float32_weights_near_the_float32_loss(tmp_path: Path):
    _, trace = fit(tmp_path / "a")
    rough, other = fit(tmp_path / "b", precision="bf16")
    assert all(p.dtype == torch.float32 for p in rough.model.parameters())
    assert other.rows != trace.rows
    for row, near in zip(trace.rows, other.rows, strict=True):
        assert near["loss"] == pytest.approx(row["loss"], rel=2e-2)


def test_a_torn_last_line_of_the_history_is_left_out(tmp_path: Path):
    fit(tmp_path, max_steps=3)
    path = tmp_path / "history.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "lo')
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    fit(tmp_path, max_steps=4)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]

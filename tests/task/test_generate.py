"""Images do not depend on the company they are drawn in, and files hold what was drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import composed
from PIL import Image
from torch import nn

from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.metrics.names import with_counts
from dit_exp.task.curve import images_between
from dit_exp.task.evaluate import evaluate
from dit_exp.task.generate import (
    draw_comparison,
    draw_grid,
    draw_progress,
    generate,
    training_images,
    trajectory,
)
from dit_exp.task.sample import sample
from dit_exp.task.score import score
from dit_exp.task.train import train

TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "guidance=cfg", "sampler=ddpm",
    "sampler.steps=4", "model.width=32", "model.depth=1", "model.heads=4", "trainer.max_steps=3",
    "trainer.batch_size=16", "trainer.warmup_steps=0", "optimizer.lr=1e-2",
]  # fmt: skip


def parts(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed([*TINY, *overrides])
    return build(cfg, choices, [*TINY, *overrides], run_dir)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    run = parts(tmp_path_factory.mktemp("run") / "trained")
    train(run)
    return run


def drawn(run, count: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    pieces = list(generate(run, run.model, count, batch_size))
    return torch.cat([p.images for p in pieces]), torch.cat([p.labels for p in pieces])


def test_images_do_not_depend_on_the_batch_size(trained):
    together, labels = drawn(trained, 12, 12)
    in_pieces, same = drawn(trained, 12, 5)
    assert torch.equal(labels, same)
    # The sums of a matrix product are rounded differently for another batch: a grey level at the most.
    assert (together.int() - in_pieces.int()).abs().max() <= 1


def test_the_first_images_are_the_same_bits_however_many_are_drawn(trained):
    few, _ = drawn(trained, 7, 5)
    many, _ = drawn(trained, 12, 5)
    assert torch.equal(few, many[:7])


def test_pieces_of_one_size_are_compiled_once_and_pictures_for_people_are_not(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    graphs, real = [], torch.compile

    def backend(graph: torch.fx.GraphModule, _: object):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(
        torch, "compile", lambda network, dynamic, mode: real(network, dynamic=dynamic, backend=backend)
    )
    plain, _ = drawn(trained, 12, 5)
    assert not graphs
    monkeypatch.setattr(trained.trainer, "compile_sampling", True)
    compiled, _ = drawn(trained, 12, 5)
    assert (plain.int() - compiled.int()).abs().max() <= 1
    assert len(graphs) == 1
    draw_grid(trained, trained.model, tmp_path / "grid.png")
    assert len(graphs) == 1
    monkeypatch.setattr(trained.trainer, "precision", "bf16")
    monkeypatch.setattr("dit_exp.nn.linear.FEW", 1)
    for _ in range(2):  # each narrows and packs the weights anew
        drawn(trained, 12, 5)
    assert len(graphs) == 2


def test_in_bfloat16_weights_are_cast_once_to_the_same_images(trained, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trained.trainer, "precision", "bf16")
    monkeypatch.setattr("dit_exp.nn.linear.FEW", 1)
    seen = set()
    linear = next(module for module in trained.model.modules() if isinstance(module, nn.Linear))

    def note(module: nn.Module, *_) -> None:
        seen.update(p.dtype for p in module.parameters())

    handle = linear.register_forward_pre_hook(note)
    once, _ = drawn(trained, 7, 5)
    assert seen == {torch.bfloat16}
    monkeypatch.setattr("dit_exp.task.generate.drawing", lambda model, *_: model)
    each, _ = drawn(trained, 7, 5)
    handle.remove()
    assert seen == {torch.bfloat16, torch.float32}
    assert torch.equal(once, each)


def test_time_is_embedded_once_an_evaluation_for_all_blocks_and_both_halves_of_a_guided_batch(tmp_path: Path):
    run, embedded = parts(tmp_path, "model.depth=3"), []
    run.model.time.register_forward_hook(lambda module, given, answer: embedded.append(len(answer)))
    list(generate(run, run.model, 5, 5))
    assert embedded == [10] * run.sampler.evaluations


def test_sampling_starts_from_the_process_s_last_noise_level(tmp_path: Path):
    run = parts(tmp_path / "edm", "process=edm", "objective=edm")
    start = next(trajectory(run, run.model, range(64)))
    assert float(start.std()) == pytest.approx(80, rel=0.02)  # EDM's sigma_max


def test_labels_are_balanced(trained):
    _, labels = drawn(trained, 30, 8)
    assert labels.bincount().tolist() == [3] * 10


def test_a_run_directory_holds_what_explains_the_run(trained):
    folder = trained.run_dir
    assert {p.name for p in folder.iterdir()} >= {
        "config.yaml", "overrides.yaml", "revision.json", "checkpoints", "samples.png", "progress.png",
        "comparison.png", "loss.png", "metrics.json", "history.jsonl",
    }  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() >= {
        "steps", "images", "loss", "images_per_second", "parameters", "gmac", "scores", "protocol",
    }  # fmt: skip
    assert metrics["steps"] == 3
    assert metrics["images"] == 48
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert metrics["loss"] == pytest.approx(sum(row["loss"] for row in rows) / 3)
    assert metrics["parameters"] == sum(p.numel() for p in trained.model.parameters())


def test_the_grid_has_four_rows_of_ten_named_classes(trained, tmp_path: Path):
    draw_grid(trained, trained.model, tmp_path / "grid.png")
    picture = Image.open(tmp_path / "grid.png")
    cell_width, cell_height = 8 * 8 + 2, 8 * 8 + 12 + 2
    assert picture.size == (10 * cell_width, 4 * cell_height)


def test_the_strip_goes_from_noise_to_the_sample(trained, tmp_path: Path):
    draw_progress(trained, trained.model, tmp_path / "strip.png", rows=2)
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    [samples] = generate(trained, trained.model, 2, 2)
    cell = 8 * 8 + 2
    assert strip.shape == (2 * cell, 5 * cell, 3)  # 4 steps and the noise before them
    last = strip[1 : 1 + 64 : 8, 4 * cell + 1 : 4 * cell + 65 : 8]
    assert np.abs(last.astype(int) - samples.images[0].permute(1, 2, 0).numpy().astype(int)).max() <= 1


def test_the_comparison_has_training_images_above_samples_of_their_classes(trained, tmp_path: Path):
    draw_comparison(trained, trained.model, tmp_path / "comparison.png")
    sheet = np.asarray(Image.open(tmp_path / "comparison.png"))
    cell_width, cell_height, margin = 8 * 8 + 2, 8 * 8 + 12 + 2, 6 * len("generated") + 4
    assert sheet.shape == (4 * cell_height, margin + 10 * cell_width, 3)

    def cell(row: int, column: int) -> np.ndarray:
        top, left = row * cell_height + 1, margin + column * cell_width + 1
        return sheet[top : top + 64 : 8, left : left + 64 : 8].astype(int)

    images, labels = trained.data.arrays("train")
    [samples] = generate(trained, trained.model, 20, 20)
    for i in range(20):
        row, column = 2 * (i // 10), i % 10
        first, second = np.flatnonzero(labels == column)[:2]  # the classes are ten
        expected = images[first if i < 10 else second].transpose(1, 2, 0)
        assert (cell(row, column) == expected).all()
        drawn = samples.images[i].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(cell(row + 1, column) - drawn).max() <= 1


def test_a_class_without_images_is_white_and_few_images_come_again(trained):
    class Few:
        image_shape = (3, 8, 8)
        labels = staticmethod(lambda split: torch.tensor([2, 0, 2]))
        size = staticmethod(lambda split: 3)

        @staticmethod
        def images(split: str, count: int):
            stack = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
            yield from stack.split(2)

    found = training_images(Few(), torch.tensor([0, 1, 2, 2, 2, 0]), 6)
    assert found[:, 0, 0, 0].tolist() == [1, 255, 0, 2, 0, 1]
    assert training_images(Few(), None, 4)[:, 2, 7, 7].tolist() == [0, 1, 2, 0]


def test_npz_has_the_layout_that_fid_tools_read(trained, tmp_path: Path):
    run = parts(tmp_path / "out", f"checkpoint={trained.run_dir}")
    sample(run, num_images=7, format="npz", batch_size=4)
    arrays = np.load(tmp_path / "out" / "samples.npz")
    assert arrays["arr_0"].shape == (7, 8, 8, 3)
    assert arrays["arr_0"].dtype == np.uint8
    assert arrays["label"].tolist() == list(range(7))


def test_png_files_hold_the_images(trained, tmp_path: Path):
    run = parts(tmp_path / "out", f"checkpoint={trained.run_dir}")
    sample(run, num_images=5, batch_size=4)
    files = sorted((tmp_path / "out" / "samples").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(5)]
    images, _ = drawn(run, 5, 4)
    for file, image in zip(files, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), image.permute(1, 2, 0).numpy())


def test_a_checkpoint_brings_the_averaged_weights(trained, tmp_path: Path):
    run = parts(tmp_path / "out", f"checkpoint={trained.run_dir}")
    stored = torch.load(next((trained.run_dir / "checkpoints").glob("*.pt")), weights_only=True)
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, stored["ema"][key])
    assert any(not torch.equal(stored["ema"][k], stored["model"][k]) for k in stored["model"])


def test_a_checkpoint_brings_its_architecture_whatever_the_defaults_are(trained, tmp_path: Path):
    cfg, choices = composed([f"checkpoint={trained.run_dir}", "tracker=none", "sampler.steps=2"])
    (tmp_path / "out").mkdir()
    run = build(cfg, choices, [f"checkpoint={trained.run_dir}", "sampler.steps=2"], tmp_path / "out")
    assert run.data.image_shape == (3, 8, 8)
    assert run.choices["data"] == "digits"
    assert run.choices["sampler"] == "ddpm"  # the trained run's, with one key changed
    assert run.sampler.steps == 2
    assert run.choices["guidance"] == "cfg"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("model.depth=2", "model.depth=2 on the command line, 1 in the checkpoint"),
        ("attn=gqa", "attn=gqa on the command line, mha in the checkpoint"),
        ("process=cosine", "process=cosine on the command line, linear in the checkpoint"),
        ("weighting=p2", "weighting=p2 on the command line, none in the checkpoint"),
    ],
)
def test_an_override_that_disagrees_with_the_checkpoint_is_refused(trained, tmp_path: Path, given, line):
    with pytest.raises(UserError) as refused:
        parts(tmp_path / "out", f"checkpoint={trained.run_dir}", given)
    assert line in str(refused.value)
    assert "come from the checkpoint" in str(refused.value)


def test_an_override_that_agrees_with_the_checkpoint_is_taken(trained, tmp_path: Path):
    parts(tmp_path / "out", f"checkpoint={trained.run_dir}", "model.depth=1", "attn=mha")


def test_tasks_that_need_a_checkpoint_say_so(tmp_path: Path):
    run = parts(tmp_path / "out")
    for task in (sample, evaluate):
        with pytest.raises(UserError, match=r"needs a trained model. Pass checkpoint=RUN_DIR"):
            task(run)


def test_evaluate_without_metrics_has_nothing_to_measure(trained, tmp_path: Path):
    run = parts(tmp_path / "out", f"checkpoint={trained.run_dir}")
    with pytest.raises(UserError, match="metrics=none leaves task=evaluate nothing to measure"):
        evaluate(run)


class Counting:
    """A metric that keeps what it is given."""

    num_samples = 23

    def __init__(self) -> None:
        self.seen = []

    def prepare(self, data) -> None:
        pass

    def update(self, images, start=0) -> None:
        self.seen.append(images)

    def compute(self):
        return {"count": float(sum(map(len, self.seen)))}, {"n": sum(map(len, self.seen))}


def test_a_score_comes_with_its_whole_protocol(trained):
    metrics = Counting()
    run = parts(trained.run_dir.parent / "scored", f"checkpoint={trained.run_dir}")
    run.metrics = metrics
    run.trainer.ema_decay = 0.0  # what the command says of a training is not what the weights came from
    scores, protocol = score(run, run.model, 10, 3, run.metrics.num_samples)
    assert scores == {"count": 23}
    assert [len(piece) for piece in metrics.seen] == [10, 10, 3]
    assert protocol == {
        "n": 23,
        "data": "digits",
        "step": 3,
        "ema_decay": 0.9999,
        "nfe": 4,
        "sampler": {
            "name": "ddpm",
            "steps": 4,
            "variance": "small",
            "clip": True,
            "reuse": {"name": "none"},
        },
        "process": {
            "name": "linear",
            "steps": 1000,
            "start": 1e-4,
            "end": 0.02,
            "zero_terminal_snr": False,
        },
        "objective": {"name": "eps"},
        "grid": {"name": "uniform"},
        "guidance": {"name": "cfg", "scale": 1.5, "channels": "all", "skip": True},
        "precision": "fp32",
        "labels": "balanced",
        "seed": 0,
        "batch_size": 10,
    }


def test_the_tracker_gets_the_count_in_the_name():
    assert with_counts({"fid": 3.0}, {"n": 50_000}) == {"fid_50k": 3.0}
    assert with_counts({"fid": 3.0}, {"n": 300}) == {"fid_300": 3.0}
    assert with_counts({}, {}) == {}


def test_checkpoint_is_not_for_training(trained, tmp_path: Path):
    with pytest.raises(UserError, match=r"To go on with a run, pass its run_dir"):
        train(parts(tmp_path / "out", f"checkpoint={trained.run_dir}"))


def test_sampling_and_scoring_do_not_write_into_a_training_run(trained):
    before = (trained.run_dir / "config.yaml").read_bytes()
    run = parts(trained.run_dir, f"checkpoint={trained.run_dir}")
    run.choices["task"], run.config["task"] = "sample", {"_target_": "dit_exp.task.sample.sample"}
    with pytest.raises(UserError, match=r"holds a training run, and task=sample would overwrite it"):
        sample(run)
    assert (trained.run_dir / "config.yaml").read_bytes() == before


def test_two_sets_of_images_do_not_mix(trained, tmp_path: Path):
    run = parts(tmp_path / "out", f"checkpoint={trained.run_dir}")
    sample(run, num_images=2)
    with pytest.raises(UserError, match=r"two sets of images would mix"):
        sample(run, num_images=1)


def test_the_places_of_this_machine_are_kept_and_the_tracker_is_the_commands(trained, tmp_path: Path):
    given = [f"checkpoint={trained.run_dir}", "metrics=offline", "cache=/here", "tracker=none"]
    cfg, choices = composed(given)
    (tmp_path / "out").mkdir()
    run = build(cfg, choices, given, tmp_path / "out")
    assert run.config["metrics"]["cache"] == "/here"
    assert run.choices["tracker"] == "none"


def test_scores_come_every_so_many_steps_or_epochs_and_not_both(trained):
    assert images_between(trained, 10, 0.0) == 160
    assert images_between(trained, 0, 2.5) == 3750  # 1,500 images
    assert images_between(trained, 0, 0.0) == 0
    with pytest.raises(UserError, match=r"task.score_epochs=1.0 are one thing in two units"):
        images_between(trained, 10, 1.0)


class CountingAnew(Counting):
    def compute(self):
        counted = super().compute()
        self.seen = []
        return counted


def test_a_run_is_scored_every_so_many_epochs_and_once_at_its_end(tmp_path: Path):
    run = parts(tmp_path / "run", "trainer.max_steps=null", "trainer.max_epochs=0.1")
    run.metrics = CountingAnew()
    train(run, score_epochs=0.02, score_samples=5, batch_size=10)
    rows = [json.loads(line) for line in (run.run_dir / "curve.jsonl").read_text().splitlines()]
    # 30, 60, 90, 120 and 150 of 1,500 images, 16 a step; the last step is scored by the final count again
    assert [(row["step"], row["n"]) for row in rows] == [(2, 5), (4, 5), (6, 5), (8, 5), (10, 23)]

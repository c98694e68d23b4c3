"""task=classifier, and sampling guided by a second checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from composing import composed
from torch import nn

from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.task.classifier import classifier
from dit_exp.task.generate import generate
from dit_exp.task.train import train
from dit_exp.task.validate import accuracy

COMMON = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "process=flow", "sampler.steps=3",
    "trainer.batch_size=16", "trainer.warmup_steps=0", "trainer.ema_decay=0", "optimizer.lr=1e-3",
]  # fmt: skip
DIT = ["objective=v", "model.width=32", "model.depth=1", "model.heads=4", "trainer.max_steps=2"]
CLASSIFIER = [
    "task=classifier", "objective=classification", "model=classifier", "model.width=16", "model.depth=2",
    "trainer.max_steps=80",
]  # fmt: skip


def parts(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed([*COMMON, *overrides])
    return build(cfg, choices, [*COMMON, *overrides], run_dir)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, a smaller one and a classifier."""
    folder = tmp_path_factory.mktemp("second")
    train(parts(folder / "model", *DIT))
    train(parts(folder / "weak", *DIT, "model.width=16", "objective=x"))
    loss = classifier(parts(folder / "classifier", *CLASSIFIER), validation_images=1000)
    assert loss < 2.2  # a guess among ten costs 2.303
    return folder


def sampled(runs: Path, tmp_path: Path, *overrides: str) -> torch.Tensor:
    cfg, choices = composed(given := [f"checkpoint={runs / 'model'}", "tracker=none", *overrides])
    (tmp_path / "out").mkdir(exist_ok=True)
    run = build(cfg, choices, given, tmp_path / "out")
    [samples] = generate(run, run.model, 4, 4)
    return samples.images


def test_a_classifier_s_run_has_what_guidance_needs(runs):
    folder = runs / "classifier"
    assert {p.name for p in folder.iterdir()} >= {"checkpoints", "config.yaml", "metrics.json", "loss.png"}


def test_a_classifier_is_measured_on_held_out_images_by_noise(runs):
    named = json.loads((runs / "classifier" / "metrics.json").read_text())["accuracy"]
    assert len(named) == 5
    assert named[0] > 0.25  # of ten classes, with little noise
    assert named[0] > named[4] + 0.05  # in noise nothing can be told


def test_a_classifier_that_knows_is_right_where_the_image_is_seen(tmp_path):
    run = parts(tmp_path, *CLASSIFIER)
    split = run.data.held_out
    pictures, labels = next(iter(run.data.images(split, 60))), run.data.labels(split)[:60]
    known = to_model_range(pictures)

    class Nearest(nn.Module):
        """Names the class of the held-out image next to x_t / alpha, whatever the time."""

        def forward(self, x, t, label):
            distance = torch.cdist(x.flatten(1), known.flatten(1))
            return nn.functional.one_hot(labels[distance.argmin(1)], 10).float()

    named = accuracy(run, Nearest(), 60)
    assert named[0] == 1.0
    assert named[4] < 0.8


def test_a_weaker_checkpoint_of_another_size_and_prediction_guides(runs, tmp_path):
    plain = sampled(runs, tmp_path)
    guidance = ["guidance=autoguidance", f"guidance.checkpoint={runs / 'weak'}"]
    assert torch.equal(sampled(runs, tmp_path, *guidance, "guidance.scale=1"), plain)
    assert not torch.equal(sampled(runs, tmp_path, *guidance, "guidance.scale=5"), plain)


def test_a_classifier_guides_and_scale_0_is_off(runs, tmp_path):
    plain = sampled(runs, tmp_path)
    guidance = ["guidance=classifier", f"guidance.checkpoint={runs / 'classifier'}"]
    assert torch.equal(sampled(runs, tmp_path, *guidance, "guidance.scale=0"), plain)
    assert not torch.equal(sampled(runs, tmp_path, *guidance, "guidance.scale=50"), plain)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["guidance=classifier", "guidance.checkpoint=weak"], r"holds no classifier.*group guidance"),
        (["guidance=autoguidance", "guidance.checkpoint=classifier"], r"holds a classifier"),
        (
            ["guidance=autoguidance", "guidance.checkpoint=weak", "process=vp"],
            r"was trained with another process: process._target_=.*Flow there, .*VP here",
        ),
        (["objective=classification"], r"objective=classification do not go together.*task=classifier"),
        (["task=classifier"], r"task=classifier, model=dit_s and objective=v do not go together"),
        (["model=classifier"], r"model=classifier names a class and predicts no image"),
    ],
)
def test_second_networks_that_do_not_fit_are_refused(runs, tmp_path, overrides, text):
    placed = [o.replace("checkpoint=", f"checkpoint={runs}/") for o in overrides]
    dit = [] if "model=classifier" in overrides else DIT
    with pytest.raises(UserError, match=text):
        parts(tmp_path, *dit, *(["objective=v"] if not dit else []), *placed)


def test_a_classifier_is_not_sampled_from(runs, tmp_path):
    with pytest.raises(UserError, match=r"do not go together"):
        sampled(runs, tmp_path, f"checkpoint={runs / 'classifier'}")

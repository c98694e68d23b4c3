"""task=autoencoder: exact resume with two optimizers, what it leaves, and a model on its latents."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from composing import composed
from hydra.utils import instantiate

from dit_exp import checkpoint
from dit_exp.build import build, build_stage
from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.objective.reconstruction import Reading
from dit_exp.task.autoencoder import _reporter, _training_images
from dit_exp.task.generate import generate
from dit_exp.task.reconstruct import Fidelity, reconstructed
from dit_exp.task.train import train
from dit_exp.tracker.none import NoTracker
from dit_exp.trainer.history import read_rows

DATA = ["data=digits", "data.image_size=16", "tracker=none", "metrics=none"]
SIZES = ["autoencoder.widths=[8,16]", "autoencoder.layers=1", "autoencoder.groups=4"]
LOSSES = ["perceptual=none", "discriminator.width=4", "discriminator.layers=1", "discriminator.start=2"]
RUN = [
    "trainer.max_steps=6", "trainer.batch_size=8", "trainer.warmup_steps=0", "trainer.ema_decay=0.9",
    "trainer.checkpoint_every=2", "trainer.log_every=1", "optimizer.lr=2e-3", "discriminator.lr=1e-3",
    "task.images=20", "task.scale_images=100", "task.codebook_every=3",
]  # fmt: skip
VQ = ["task=autoencoder", "autoencoder=vq", "autoencoder.codebook_size=32", *DATA, *SIZES, *LOSSES, *RUN]


class PowerCut(NoTracker):
    def __init__(self, step: int) -> None:
        self.step = step

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.step:
            raise ConnectionError("gone")


def first_stage(run_dir: Path, *overrides: str, tracker=None, base=VQ):
    run_dir.mkdir(exist_ok=True)
    given = [*base, *overrides]
    cfg, choices = composed(given)
    stage = build_stage(cfg, choices, given, run_dir)
    if tracker is not None:
        stage = dataclasses.replace(stage, tracker=tracker)
    return instantiate(cfg.task)(stage), stage


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    first_stage(folder / "vq")
    return folder


def leaves(node):
    if isinstance(node, dict):
        for key in sorted(node, key=str):
            yield from leaves(node[key])
    elif isinstance(node, list | tuple):
        for value in node:
            yield from leaves(value)
    else:
        yield node


@pytest.mark.parametrize("at", [3, 5])
def test_a_run_that_broke_off_ends_bit_for_bit_as_an_unbroken_one(runs: Path, tmp_path: Path, at: int):
    with pytest.raises(ConnectionError):
        first_stage(tmp_path / "run", tracker=PowerCut(at))
    assert checkpoint.newest(tmp_path / "run")[1]["step"] == at - 1
    first_stage(tmp_path / "run")
    for place in ("checkpoints/step_00000006.pt", "autoencoder.pt"):
        whole, again = (
            [v for k, v in sorted(checkpoint.load(r / place).items()) if k not in ("config", "seconds")]
            for r in (runs / "vq", tmp_path / "run")
        )
        for one, other in zip(leaves(whole), leaves(again), strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    for name in ("history.jsonl", "codebook.jsonl"):
        assert read_rows(runs / "vq" / name) == read_rows(tmp_path / "run" / name)


def test_both_optimizers_and_the_discriminator_are_in_the_checkpoint(runs: Path):
    _, state = checkpoint.find(str(runs / "vq"))
    extra = state["objective"]["_extra_state"]
    assert extra["step"] == 6
    assert {int(s["step"]) for s in extra["discriminator"]["optimizer"]["state"].values()} == {4}
    assert {int(s["step"]) for s in state["optimizer"]["state"].values()} == {6}


def test_the_averaged_weights_are_left_with_a_measured_scale(runs: Path):
    _, left = checkpoint.autoencoder(str(runs / "vq"))
    _, state = checkpoint.find(str(runs / "vq"))
    assert int(left["model"]["measured"]) == 100
    assert torch.equal(left["model"]["encoder.conv_in.weight"], state["ema"]["encoder.conv_in.weight"])
    assert not torch.equal(left["model"]["encoder.conv_in.weight"], state["model"]["encoder.conv_in.weight"])
    assert int(state["model"]["measured"]) == 0
    found = json.loads((runs / "vq" / "metrics.json").read_text())
    assert found["perceptual"] == "none"
    assert set(found["scores"]) == {"psnr", "ssim"}
    assert found["protocol"]["n"] == 20
    rows = read_rows(runs / "vq" / "codebook.jsonl")
    assert [row["step"] for row in rows] == [3, 6]
    assert all(0 < row["used"] <= 32 and row["perplexity"] <= row["used"] + 1e-6 for row in rows)
    assert {path.name for path in (runs / "vq").glob("*.png")} == {"reconstructions.png", "loss.png"}


SECOND = [
    *DATA, "objective=v", "process=flow", "sampler.steps=2", "model.width=32", "model.depth=1",
    "model.heads=4", "trainer.max_steps=2", "trainer.batch_size=8", "trainer.ema_decay=0",
]  # fmt: skip


def second_stage(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed(given := [*SECOND, *overrides])
    return build(cfg, choices, given, run_dir)


def test_a_model_learns_its_latents_whose_size_is_the_autoencoder_s(runs: Path, tmp_path: Path):
    parts = second_stage(tmp_path / "dit", where := f"autoencoder.checkpoint={runs / 'vq'}")
    assert parts.choices["autoencoder"] == "vq"  # the run's, though the command line says nothing
    assert parts.latent_shape == (4, 8, 8)
    assert not any(weight.requires_grad for weight in parts.autoencoder.parameters())
    train(parts)
    cfg, choices = composed(given := [f"checkpoint={tmp_path / 'dit'}", "tracker=none"])
    again = build(cfg, choices, given, tmp_path)
    assert again.autoencoder.identity() == parts.autoencoder.identity()
    [samples] = generate(again, again.model, 2, 2)
    assert samples.images.shape == (2, 3, 16, 16)

    moved = (runs / "vq").rename(runs / "moved")
    try:
        with pytest.raises(UserError, match=r"autoencoder.checkpoint=.*there is no file"):
            build(cfg, choices, given, tmp_path)
        given = [*given, f"autoencoder.checkpoint={moved}"]
        cfg, choices = composed(given)
        elsewhere = build(cfg, choices, given, tmp_path)
        assert elsewhere.autoencoder.identity() == parts.autoencoder.identity()
    finally:
        moved.rename(runs / "vq")
    assert where


def test_another_autoencoder_than_the_model_s_is_refused(runs: Path, tmp_path: Path):
    train(second_stage(tmp_path / "dit", f"autoencoder.checkpoint={runs / 'vq'}"))
    first_stage(tmp_path / "other", "seed=1", "trainer.max_steps=2")
    cfg, choices = composed(
        given := [
            f"checkpoint={tmp_path / 'dit'}",
            f"autoencoder.checkpoint={tmp_path / 'other'}",
            "tracker=none",
        ]
    )
    with pytest.raises(UserError, match=r"was trained on latents of the autoencoder \w{16}, and this one is"):
        build(cfg, choices, given, tmp_path)


def test_a_second_stage_goes_on_where_its_autoencoder_has_moved_but_not_with_another(
    runs: Path, tmp_path: Path
):
    shutil.copytree(runs / "vq", tmp_path / "first")

    def run(*words: str) -> None:
        train(second_stage(tmp_path / "dit", *words))

    run(f"autoencoder.checkpoint={tmp_path}/first")
    (tmp_path / "first").rename(tmp_path / "moved")
    run(f"autoencoder.checkpoint={tmp_path}/moved", "trainer.max_steps=3")
    assert checkpoint.newest(tmp_path / "dit")[1]["step"] == 3
    first_stage(tmp_path / "moved", "trainer.max_steps=7")  # the same place has other weights
    with pytest.raises(
        UserError, match=r"autoencoder_identity: \w{16} in the run directory, \w{16} in the c"
    ):
        run(f"autoencoder.checkpoint={tmp_path}/moved", "trainer.max_steps=4")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("task.exponent=2", "task.exponent: 1.0 in the run directory, 2 in the command"),
        ("task.codebook_every=1", "task.codebook_every: 3 in the run directory, 1 in the command"),
        ("autoencoder.checkpoint=VQ", "autoencoder.checkpoint: None in the run directory, "),
    ],
)
def test_a_first_stage_does_not_go_on_under_another_loss(runs: Path, word: str, line: str):
    with pytest.raises(UserError) as refused:
        first_stage(runs / "vq", "trainer.max_steps=7", word.replace("VQ", str(runs / "vq")))
    assert line in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["autoencoder=vq"], r"autoencoder=vq has no weights for task=train. Train it with task=autoencoder"),
        (["autoencoder=kl"], r"autoencoder=kl has no weights for task=train"),
        (
            ["autoencoder=fsq", "CHECKPOINT"],
            r"trained otherwise:\n  autoencoder: fsq on the command line, vq",
        ),
        (
            ["autoencoder=vq", "CHECKPOINT", "autoencoder.codebook_size=64"],
            r"trained otherwise:\n  autoencoder.codebook_size: 64 on the command line",
        ),
        (["CHECKPOINT", "model.patch_size=3"], r"input is 8x8, and model.patch_size=3 does not divide it"),
    ],
)
def test_a_second_stage_that_does_not_fit_is_refused(runs: Path, tmp_path: Path, overrides, text):
    placed = [f"autoencoder.checkpoint={runs / 'vq'}" if o == "CHECKPOINT" else o for o in overrides]
    with pytest.raises(UserError, match=text):
        second_stage(tmp_path, *placed)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["trainer.compile=true"], r"leave trainer.compile=false and trainer.strategy=ddp"),
        (["task.images=100000"], r"task.images=100000, but the test split has \d+ images"),
        (["task.exponent=0"], r"task.exponent must be above 0"),
        (["data.image_size=15"], r"sides that 2 divides, and the data's are 15x15"),
        (["checkpoint=somewhere"], r"checkpoint= is not for task=autoencoder.*pass its run_dir"),
    ],
)
def test_a_first_stage_that_makes_no_sense_is_refused(tmp_path: Path, overrides, text):
    with pytest.raises(UserError, match=text):
        first_stage(tmp_path / "run", *overrides)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_pixels_are_not_trained(tmp_path: Path):
    with pytest.raises(UserError, match=r"autoencoder=identity is not trained here. Choose autoencoder=vq"):
        first_stage(tmp_path / "run", base=["task=autoencoder", *DATA])


class Lossless(torch.nn.Module):
    """Latents are the images."""

    def statistics(self, image):
        return image

    def latent(self, statistics, noise):
        return statistics

    def decode(self, latent):
        return latent


def test_the_distance_of_identical_images_is_0_under_the_protocol_of_the_scores(tmp_path: Path):
    given = [o for o in VQ if o != "metrics=none"]
    cfg, choices = composed([*given, "metrics=rfd", "device=cpu", "task.images=30"])
    fidelity = Fidelity(build_stage(cfg, choices, given, tmp_path), count=30, batch_size=12)
    fidelity.prepare()
    scores, protocol = fidelity.scores(Lossless())
    assert list(scores) == ["rfd_efficientnet_lite0", "psnr", "ssim"]
    # The statistics of the two are equal; what is left is the rounding of a matrix's square root.
    assert scores["rfd_efficientnet_lite0"] == pytest.approx(0, abs=1e-3)
    assert scores["psnr"] == 100.0
    assert scores["ssim"] == pytest.approx(1.0)
    assert protocol["n"] == protocol["reference"]["count"] == 30
    assert protocol["reference"]["split"] == "test"
    # 30 of 297 from all over the split; the distance is 0, so the reference are the same ones.
    assert protocol["reference"]["order"] == "evenly spaced"
    assert protocol["extractor"] == "efficientnet-lite0"


def test_the_scale_is_measured_on_images_from_all_over_the_split(tmp_path: Path):
    stage = build_stage(*composed(VQ), VQ, tmp_path)
    images = to_model_range(torch.cat(list(stage.data.images("train"))))
    seen = torch.cat(list(_training_images(stage, 40)))
    assert torch.equal(seen, torch.cat([images[:20], images[1480:]]))


def test_reconstructions_are_rounded_to_the_same_grey_levels():
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    assert torch.equal(reconstructed(Lossless(), images, torch.device("cpu")), images)


def test_a_collapsed_codebook_raises_an_alarm(tmp_path: Path, caplog):
    given = [*VQ]
    cfg, choices = composed(given)
    report = _reporter(build_stage(cfg, choices, given, tmp_path))
    report(Reading(step=3, codes=1000, used=50, perplexity=40.0, restarted=950))
    assert "collapsed" not in caplog.text
    report(Reading(step=6, codes=1000, used=49, perplexity=40.0, restarted=951))
    assert "The codebook has collapsed: 49 of 1000 codes are used" in caplog.text
    report(Reading(step=6, codes=1000, used=60, perplexity=40.0, restarted=940))  # taken again
    assert [(row["step"], row["used"]) for row in read_rows(tmp_path / "codebook.jsonl")] == [
        (3, 50),
        (6, 60),
    ]

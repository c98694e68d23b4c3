"""Every model with every attention, conditioning, process and prediction: one loss, one backward, one sample.

What makes no sense is refused when it is built, with a sentence that says what to change.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from composing import CONF, composed

from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.sampler.denoise import on_process_time
from dit_exp.task.generate import generate

PLAIN = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "guidance=cfg", "sampler.steps=4",
    "model.width=32", "model.heads=4",
]  # fmt: skip
TINY = [*PLAIN, "model.depth=2"]
# One preset of each class, and the keys that make it small.
MODELS = {
    "dit_b": ["model.depth=2"],
    "ddt_b": ["model.encoder_depth=1", "model.decoder_depth=1"],
    "diffit_latent": ["model.depth=2"],
    "diffit_cifar": ["model.depth=1"],
    "uvit_s": ["model.depth=2"],
    "jit_b": ["model.depth=2", "model.patch_size=4"],
    "hourglass": ["model.depth=1", "model.inner_depth=2"],
}
APPENDING = {"token", "tokens", "incontext"}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def parts(tmp_path: Path, *overrides: str):
    cfg, names = composed([*TINY, *overrides])
    return build(cfg, names, [], tmp_path)


ALL = list(itertools.product(MODELS, choices("attn"), choices("cond")))
# Every pair of choices with the third by default; the rest of the product runs among the system tests.
PAIRS = [m for m in ALL if m[0] == "dit_b" or m[1] == "mha" or m[2] == "adaln"]
NETWORKS = [pytest.param(*m, marks=() if m in PAIRS else pytest.mark.system) for m in ALL]
# Paths that end in pure noise, and those whose time is a number and no step.
NO_SIGNAL, NO_STEPS = {"flow", "gvp"}, {"flow", "gvp", "vp", "subvp", "edm"}


def refusal(process: str, objective: str) -> str | None:
    """Why a prediction cannot be made on a process, as build.py says it, or None."""
    if objective == "classification":
        return "A classifier is trained with task=classifier model=classifier"
    if objective == "eps_hybrid" and process in NO_STEPS:
        return "objective=eps_hybrid learns the variance of discrete steps"
    if objective == "eps" and process in NO_SIGNAL:
        return "objective=eps cannot be used with this process"
    return None


def misfit(model: str, attn: str, cond: str) -> str | None:
    """Why a network cannot be made of parts, as its constructor says it, or None."""
    if model == "diffit_cifar" and cond in APPENDING:
        return "carries no appended tokens. Use cond=none with attn=tmsa, or cond=adaln"
    if attn == "tmsa_window" and cond in APPENDING:
        return "an attention in windows has no place for them. Use attn.window=null, or cond=adaln"
    if model == "ddt_b" and cond in APPENDING:
        return "model=ddt conditions its decoder token by token"
    if cond == "none" and not attn.startswith("tmsa"):
        return "cond=none leaves the condition to the attention, and this attention does not read it"
    return None


def trains_and_samples(run) -> None:
    torch.manual_seed(0)
    batch = next(run.data.train(8, seed=0).batches())
    network = on_process_time(run.model, run.process)
    loss = run.objective.loss(network, to_model_range(batch.image), batch.label)
    assert loss.shape == (8,)
    loss.mean().backward()
    assert loss.isfinite().all()
    assert run.model.head.weight.grad.abs().sum() > 0
    [samples] = generate(run, run.model, 3, 3)
    assert samples.images.shape == (3, 3, 8, 8)
    assert samples.labels.tolist() == [0, 1, 2]


def test_every_class_of_model_is_in_the_product():
    targets = {composed([f"model={name}"])[0].model._target_ for name in choices("model")}
    covered = {composed([f"model={name}"])[0].model._target_ for name in MODELS}
    assert targets - covered == {"dit_exp.model.classifier.NoisyClassifier"}


@pytest.mark.parametrize(("model", "attn", "cond"), NETWORKS)
def test_every_network_trains_and_samples_or_says_why_not(tmp_path, model, attn, cond):
    start = ["cond.start=0"] if cond == "incontext" else []
    overrides = [*PLAIN, f"model={model}", f"attn={attn}", f"cond={cond}", *MODELS[model], *start]
    cfg, names = composed(overrides)
    if (reason := misfit(model, attn, cond)) is not None:
        with pytest.raises(UserError, match=reason):
            build(cfg, names, [], tmp_path)
    else:
        trains_and_samples(build(cfg, names, [], tmp_path))


@pytest.mark.parametrize("process", choices("process"))
def test_every_process_is_learned_by_a_network_told_its_time(tmp_path, process):
    trains_and_samples(parts(tmp_path, f"process={process}", "objective=v"))


@pytest.mark.parametrize("objective", choices("objective"))
@pytest.mark.parametrize("process", choices("process"))
def test_every_prediction_trains_on_every_process_or_says_why_not(tmp_path, process, objective):
    overrides = (f"process={process}", f"objective={objective}")
    if (reason := refusal(process, objective)) is not None:
        with pytest.raises(UserError, match=reason):
            parts(tmp_path, *overrides)
    else:
        trains_and_samples(parts(tmp_path, *overrides))


@pytest.mark.parametrize("model", MODELS)
def test_every_network_is_aligned_and_told_of_its_augmentation_or_says_why_not(tmp_path, model):
    """Through the trainer's own step, then sampled without either."""
    aligned = ["alignment=repa", "alignment.width=16", "teacher.image_size=32"]
    start = ["cond=incontext", "cond.start=0"] if model == "jit_b" else []
    once = ["augment=edm", "trainer.max_steps=1", "trainer.batch_size=4", "trainer.compile=false"]
    cfg, names = composed([*PLAIN, f"model={model}", *MODELS[model], *start, *once, *aligned])
    if model == "diffit_cifar":
        with pytest.raises(UserError, match=r"blocks of DiffiTImage cannot be run apart.*alignment=none"):
            build(cfg, names, [], tmp_path)
        cfg, names = composed([*PLAIN, f"model={model}", *MODELS[model], *once])
    run = build(cfg, names, [], tmp_path)
    state, history = run.trainer.fit(
        run.model,
        lambda network: on_process_time(network, run.process),
        run.objective,
        run.autoencoder,
        run.data,
        run.optimizer,
        run.tracker,
        tmp_path,
        seed=0,
        config={},
        choices={},
        augment=run.augment,
        alignment=run.alignment,
    )
    [row] = history.rows
    assert ("alignment" in row) == (model != "diffit_cifar")
    weight = run.model.augmentation.weight
    assert weight in state.optimizer.state
    [samples] = generate(run, run.model, 3, 3)
    assert samples.images.shape == (3, 3, 8, 8)


def test_a_classifier_is_not_told_of_an_augmentation_and_says_so(tmp_path):
    tiny = [word for word in TINY if not word.startswith("model.heads")]
    classifier = ["model=classifier", "task=classifier", "objective=classification", "guidance=none"]
    cfg, names = composed([*tiny, *classifier, "augment=edm"])
    with pytest.raises(UserError, match=r"NoisyClassifier cannot be told how.*Use augment=none"):
        build(cfg, names, [], tmp_path)


@pytest.mark.system  # the unit suite has each by itself
@pytest.mark.parametrize("sampler", choices("sampler"))
@pytest.mark.parametrize("process", choices("process"))
def test_every_sampler_samples_every_process(tmp_path, sampler, process):
    overrides = (f"sampler={sampler}", f"process={process}", "objective=v", "sampler.steps=4")
    [samples] = generate(run := parts(tmp_path, *overrides), run.model, 2, 2)
    assert samples.images.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("grid", sorted({*choices("grid")} - {"respaced"}))
@pytest.mark.parametrize("process", choices("process"))
def test_every_grid_serves_every_process(tmp_path, grid, process):
    run = parts(tmp_path, f"grid={grid}", f"process={process}", "objective=v", "sampler=heun")
    [samples] = generate(run, run.model, 2, 2)
    assert samples.images.shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["process=flow", "objective=eps"], r"objective=eps cannot be used with this process.*objective=v"),
        (
            ["process.zero_terminal_snr=true"],
            r"objective=eps cannot be used with this process: at t=1 .* pure noise.*Use objective=v",
        ),
        (["process.zero_terminal_snr=true", "objective=eps_hybrid"], r"Use objective=v or objective=x"),
        (["process.steps=5"], r"betas of this process reach from 0.02 to 4.*raise process.steps"),
        (["process=flow", "objective=eps_hybrid"], r"learns the variance of discrete steps.*process=linear"),
        (
            ["model.heads=5"],
            r"model.width=32 is not divisible by model.heads=5.*1, 2, 4, 8, 16, 32.*group model",
        ),
        (["attn=gqa", "attn.kv_heads=3"], r"model.heads=4 is not divisible by attn.kv_heads=3"),
        (["model.patch_size=3"], r"input is 8x8, and model.patch_size=3 does not divide it.*data.image_size"),
        (["model.class_dropout=0"], r"Classifier-free guidance needs a model with a null label"),
        (["sampler.steps=2000"], r"sampler.steps=2000 is not possible: the process has 1000 steps"),
        (
            ["grid=respaced", "sampler.steps=50"],
            r"takes 45 steps and sampler.steps=50. Pass sampler.steps=45",
        ),
        (["grid=respaced", "process=vp"], r"this one is continuous. Use grid=uniform, karras or shifted"),
        (["guidance=autoguidance", "guidance.checkpoint=nowhere"], r"checkpoint=nowhere does not exist"),
        (["sampler=adams", "sampler.order=5"], r"sampler.order=5 must be 1 to 4"),
        (["sampler.eta=2"], r"sampler.eta=2 must lie in \[0, 1\]"),
        (["trainer.max_steps=null"], r"A run needs a budget"),
        (["cond=token", "cond.tokens=3"], r"cond.tokens=3 is not possible"),
        (["seed=-1"], r"seed=-1 must be 0 or more"),
        (["model.heads=0"], r"model.heads=0 .* must be at least 1"),
        (["model.depth=0"], r"model.depth=0.* must be at least 1"),
        (["model.patch_size=0"], r"model.patch_size=0 must be at least 1"),
        (["attn=gqa", "attn.kv_heads=0"], r"attn.kv_heads=0 must be at least 1"),
        (["process.steps=0"], r"process.steps=0 must be at least 1"),
        (["device=gpu"], r"device=gpu is no torch device"),
        (["optimizer.lr=-1"], r"learning rate.*group optimizer"),
        (["data.image_size=0"], r"data.image_size=0 must be at least 1"),
        (
            ["augment=edm", "augment.probability=2"],
            r"augment.probability=2 must lie in \[0, 1\].*group augment",
        ),
        (["alignment=repa", "alignment.depth=3"], r"alignment.depth=3 must be 1 to 2.*group alignment"),
        (["alignment=repa", "teacher.image_size=30"], r"teacher.image_size=30 must be a multiple of 32"),
        (
            ["alignment=repa", "teacher=dinov2", "teacher.weights=no.pth"],
            r"teacher.weights=no.pth is not a file",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_change(tmp_path, overrides, text):
    with pytest.raises(UserError, match=text):
        parts(tmp_path, *overrides)

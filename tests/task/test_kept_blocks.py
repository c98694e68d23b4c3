"""sampler.reuse in a run: built, sampled, scored, trained, measured once and cached."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import pytest
import torch
from composing import composed

from dit_exp import checkpoint
from dit_exp.build import build
from dit_exp.check import preflight
from dit_exp.errors import UserError
from dit_exp.report.protocols import of_scores, variants
from dit_exp.sampler.reuse.none import NoReuse
from dit_exp.task import reuse
from dit_exp.task.edit import edit
from dit_exp.task.evaluate import evaluate
from dit_exp.task.generate import decode, draw_grid, generate, trajectory
from dit_exp.task.record import flatten
from dit_exp.task.sample import sample
from dit_exp.task.train import train

PLAIN = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler=euler", "sampler.steps=6",
    "model.width=32", "model.heads=4", "model.patch_size=2", "trainer.max_steps=1", "trainer.batch_size=8",
    "trainer.warmup_steps=0", "guidance=cfg",
]  # fmt: skip
DIT = ["model=dit_b", "model.depth=3"]
MODELS = {
    "ddt_b": ["model=ddt_b", "model.encoder_depth=2", "model.decoder_depth=1"],
    "dit_b": DIT,
    "uvit_s": ["model=uvit_s", "model.depth=2"],
}


def parts(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    words = [*PLAIN, *overrides, f"cache={run_dir.parent / 'cache'}"]
    cfg, choices = composed(words)
    preflight(cfg)
    return build(cfg, choices, words, run_dir)


def drawn(run, seed: int = 0, count: int = 4) -> torch.Tensor:
    """Images of weights that are drawn, so that no block is the identity, as if of a checkpoint."""
    run.source = {"step": 0}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in run.model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    [samples] = generate(run, run.model, count, count)
    assert samples.images.float().std() > 1
    return samples.images


def stored(tmp_path: Path) -> list[Path]:
    """The measurements in the cache of `parts`."""
    return list((tmp_path / "cache" / "reuse").glob("*"))


def encoded(run, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch of every call of the model's encode."""
    calls, inner = [], run.model.encode

    def encode(x, *rest):
        calls.append(len(x))
        return inner(x, *rest)

    monkeypatch.setattr(run.model, "encode", encode)
    return calls


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of evaluations whenever an image is measured."""
    seen, inner = [], reuse.likeness

    def likeness(states):
        seen.append(len(states))
        return inner(states)

    monkeypatch.setattr(reuse, "likeness", likeness)
    return seen


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "run"
    train(parts(folder, *DIT))
    return folder


@pytest.mark.parametrize("guidance", ["guidance=cfg", "guidance=interval"])
@pytest.mark.parametrize("model", MODELS)
def test_none_and_a_run_at_every_evaluation_are_the_network_bit_for_bit(tmp_path, model, guidance):
    plain = parts(tmp_path / "none", *MODELS[model], guidance)
    images = drawn(plain)
    [x] = deque(trajectory(plain, plain.model, range(4)), maxlen=1)
    assert torch.equal(images, decode(plain, x))
    for choice in ("uniform", "planned", "forecast"):
        words = [f"sampler.reuse={choice}", "sampler.reuse.ratio=0"]
        assert torch.equal(drawn(parts(tmp_path / choice, *MODELS[model], guidance, *words)), images)


@pytest.mark.parametrize("choice", ["uniform", "planned", "forecast"])
def test_keeping_changes_the_images_and_is_the_same_each_time(tmp_path, choice):
    words = [*DIT, f"sampler.reuse={choice}", "sampler.reuse.ratio=0.5"]
    images = drawn(parts(tmp_path / "a", *words))
    assert torch.equal(drawn(parts(tmp_path / "b", *words)), images)
    assert not torch.equal(drawn(parts(tmp_path / "c", *DIT)), images)


@pytest.mark.parametrize(
    ("words", "batches"),
    [
        (["guidance=none"], [4, 4]),
        (["guidance=cfg"], [8, 8]),  # both halves at once
        # guided at the times 4/6 and 3/6 of 6/6 to 1/6, so the batch changes twice
        (["guidance=interval", "guidance.interval=[0.45,0.7]"], [4, 8, 4]),
        (["guidance=interval", "guidance.interval=[0.45,0.7]", "guidance.skip=false"], [8, 8]),
        (["sampler=unipc"], [8, 8]),
        (["sampler=heun", "sampler.steps=6"], [8, 8, 8, 8]),  # 11 evaluations, 7 of them kept
    ],
)
def test_the_encoder_is_run_as_often_as_planned_for_the_whole_batch(tmp_path, monkeypatch, words, batches):
    run = parts(tmp_path / "run", *DIT, "process=flow", "objective=v", "sampler.steps=6", *words,
                "sampler.reuse=uniform", "sampler.reuse.ratio=0.65")  # fmt: skip
    calls = encoded(run, monkeypatch)
    [samples] = generate(run, run.model, 4, 4)
    assert calls == batches
    assert samples.encoder_nfe == len(batches)


def test_a_plan_is_measured_once_and_read_again_for_other_ratios_and_seeds(tmp_path, measurements):
    words = [*DIT, "sampler.reuse=planned", "sampler.reuse.images=2"]
    run = parts(tmp_path / "run", *words, "sampler.reuse.ratio=0.5")
    images = drawn(run)
    assert measurements == [6, 6]  # two images, six evaluations
    assert torch.equal(drawn(run), images)
    draw_grid(run, run.model, tmp_path / "grid.png")
    drawn(parts(tmp_path / "again", *words, "sampler.reuse.ratio=0.7"))
    other = parts(tmp_path / "seed", *words)
    other.seed = 5
    drawn(other)
    assert measurements == [6, 6]
    [path] = stored(tmp_path)
    alike = torch.load(path, weights_only=True)
    assert (alike.shape, alike.dtype) == ((6, 6), torch.float32)


@pytest.mark.parametrize(
    "words",
    [
        ["sampler.steps=5"],
        ["grid=shifted"],
        ["sampler=ddim"],
        ["guidance.scale=3"],
        ["sampler.reuse.depth=1"],
        ["sampler.reuse.images=1"],
    ],
    ids=" ".join,
)
def test_what_a_plan_depends_on_is_measured_anew(tmp_path, measurements, words):
    given = [*DIT, "process=flow", "objective=v", "sampler.reuse=planned", "sampler.reuse.images=2"]
    drawn(parts(tmp_path / "run", *given))
    before = len(measurements)
    drawn(parts(tmp_path / "other", *given, *words))
    assert len(measurements) > before


def test_another_checkpoint_does_not_read_the_plan_of_the_first(tmp_path, measurements):
    run = parts(tmp_path / "run", *DIT, "sampler.reuse=planned", "sampler.reuse.images=1")
    drawn(run, seed=0)
    drawn(run, seed=1)
    assert len(measurements) == 2
    drawn(run, seed=0)
    assert len(measurements) == 2
    assert len(stored(tmp_path)) == 2


def test_other_weights_of_the_guide_in_the_same_place_are_measured_anew(run_dir, tmp_path, measurements):
    guide = ["guidance=autoguidance", f"guidance.checkpoint={run_dir}"]
    run = parts(tmp_path / "run", *DIT, *guide, "sampler.reuse=planned", "sampler.reuse.images=1")
    drawn(run)
    before = run.guide.head.bias.clone()
    for bias, count in ((before + 1, 2), (before, 2)):
        with torch.no_grad():
            run.guide.head.bias.copy_(bias)
        drawn(run)
        assert len(measurements) == len(stored(tmp_path)) == count


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    run = parts(tmp_path / "run", *DIT, "sampler.reuse=planned")
    run.source = {"step": 0}
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "reuse").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cache: .*reuse cannot be written.*Pass cache=DIR"):
        list(generate(run, run.model, 2, 2))


class Counting:
    """A metric that counts."""

    num_samples = 7

    def __init__(self) -> None:
        self.seen = 0

    def prepare(self, data) -> None:
        pass

    def update(self, images, start=0) -> None:
        self.seen += len(images)

    def compute(self):
        return {"count": float(self.seen)}, {"n": self.seen}


def protocol_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())["protocol"]


def test_training_draws_and_scores_with_kept_blocks(tmp_path, measurements, monkeypatch):
    words = ["sampler.reuse=planned", "sampler.reuse.ratio=0.5", "sampler.reuse.images=1"]
    run = parts(tmp_path / "run", *DIT, *words, "trainer.max_steps=2", "trainer.sample_every=1")
    run.metrics = Counting()
    plans, inner = [], run.reuse.plan
    monkeypatch.setattr(run.reuse, "plan", lambda *given: plans.append(inner(*given)) or plans[-1])
    train(run, score_every=1)
    assert (tmp_path / "run" / "samples.png").exists()
    assert len(plans) == 2  # a step's grid, strip and score are of the same weights
    assert measurements == [6, 6]
    assert not stored(tmp_path)
    protocol = protocol_of(tmp_path / "run")
    assert (protocol["nfe"], protocol["encoder_nfe"]) == (6, 3)
    assert protocol["sampler"]["reuse"] == {"name": "planned", "ratio": 0.5, "depth": None, "images": 1}


def test_sampling_and_scoring_a_checkpoint_with_kept_blocks(run_dir, tmp_path):
    words = [f"checkpoint={run_dir}", "sampler.reuse.ratio=0.7", "sampler.reuse=uniform"]
    scored = parts(tmp_path / "scored", *DIT, *words)
    scored.metrics = Counting()
    evaluate(scored, batch_size=4)
    protocol = protocol_of(tmp_path / "scored")
    assert protocol["encoder_nfe"] == 2
    assert protocol["sampler"]["reuse"] == {"name": "uniform", "ratio": 0.7, "depth": None}
    sample(parts(tmp_path / "drawn", *DIT, *words, "sampler.reuse=planned"), num_images=3)
    assert len(list((tmp_path / "drawn" / "samples").iterdir())) == 3
    assert len(stored(tmp_path)) == 1


def from_checkpoint(where: Path, out: Path, *words: str):
    """Built as by a command line of these words alone."""
    given = [f"checkpoint={where}", "tracker=none", f"cache={out.parent / 'cache'}", *words]
    out.mkdir(exist_ok=True)
    cfg, choices = composed(given)
    return build(cfg, choices, given, out)


def test_a_checkpoint_brings_how_it_was_sampled_unless_the_command_says_otherwise(tmp_path):
    train(parts(tmp_path / "run", *DIT, "sampler.reuse=uniform", "sampler.reuse.ratio=0.7"))
    kept = from_checkpoint(tmp_path / "run", tmp_path / "kept", "sampler.steps=10")
    assert (kept.choices["sampler.reuse"], kept.reuse.ratio, kept.sampler.steps) == ("uniform", 0.7, 10)
    other = from_checkpoint(
        tmp_path / "run", tmp_path / "other", "sampler.reuse.ratio=0.2", "sampler.reuse=planned"
    )
    assert (other.choices["sampler.reuse"], other.reuse.ratio) == ("planned", 0.2)
    assert other.config["sampler"]["reuse"]["images"] == 8
    for words in (["sampler.reuse=none"], ["sampler=heun"]):
        off = from_checkpoint(tmp_path / "run", tmp_path / words[0], *words)
        assert isinstance(off.reuse, NoReuse)
        assert off.choices["sampler.reuse"] == "none"


def test_a_checkpoint_older_than_the_choice_is_sampled_from(run_dir, tmp_path):
    _, state = checkpoint.find(str(run_dir))
    del state["config"]["sampler"]["reuse"], state["choices"]["sampler.reuse"]
    checkpoint.save(state, checkpoint.path_of(tmp_path / "old", state["step"]), keep=1)
    plain = from_checkpoint(tmp_path / "old", tmp_path / "plain")
    assert isinstance(plain.reuse, NoReuse)
    assert plain.choices["sampler.reuse"] == "none"
    kept = from_checkpoint(tmp_path / "old", tmp_path / "kept", "sampler.reuse=uniform")
    assert kept.reuse.ratio == 0.75


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("sampler.reuse.depth=4", r"4 blocks cannot be kept of a model that has 3.*group sampler.reuse"),
        ("sampler.reuse.ratio=1", r"ratio=1 must be from 0.*from the group sampler.reuse"),
        ("sampler.reuse.ratio=much", r"sampler.reuse.ratio='much': expected float, got str"),
        ("+sampler.reuse.rate=2", r"sampler.reuse.rate=2: Uniform has no such argument"),
        ("+sampler.kept=2", r"sampler.kept=2: Euler has no such argument"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_any_work_is_done(tmp_path, given, text):
    with pytest.raises(UserError, match=text):
        parts(tmp_path / "run", *DIT, "sampler.reuse=uniform", given)


def test_a_model_without_a_first_part_is_refused_when_it_is_built(tmp_path):
    words = ["data=digits", "data.image_size=8", "tracker=none", "metrics=none", "model=diffit_cifar"]
    cfg, choices = composed([*words, "model.stages=1", "model.width=32", "sampler.reuse=planned"])
    with pytest.raises(UserError, match=r"DiffiTImage cannot be run apart.*from the group sampler.reuse"):
        build(cfg, choices, words, tmp_path)


class TwoCalls:
    """A guidance that asks for each half by itself."""

    def begin(self):
        return self

    def __call__(self, denoise, x, t, label):
        denoise(x, t, label)
        return denoise(x, t, label)


def test_a_guidance_that_asks_twice_an_evaluation_is_refused(tmp_path):
    run = parts(tmp_path / "run", *DIT, "sampler.reuse=uniform")
    run.guidance = TwoCalls()
    with pytest.raises(UserError, match=r"asks the network 12 times in the 6 evaluations of sampler=euler"):
        list(generate(run, run.model, 2, 2))


def test_edits_do_not_keep_blocks(run_dir, tmp_path):
    run = parts(tmp_path / "out", *DIT, f"checkpoint={run_dir}", "sampler.reuse=uniform")
    with pytest.raises(UserError, match=r"sampler.reuse=uniform is planned for a walk.*sampler.reuse=none"):
        edit(run, edit=None)  # type: ignore[arg-type]


def test_a_tracker_gets_the_choice_and_its_keys(tmp_path):
    run = parts(tmp_path / "run", *DIT, "sampler.reuse=planned", "sampler.reuse.ratio=0.5")
    flat = flatten(run.config, run.choices)
    assert flat["sampler.reuse"] == "planned"
    assert flat["sampler.reuse.ratio"] == 0.5
    assert flat["sampler.reuse.images"] == 8
    assert not any("_target_" in key for key in flat)


def test_a_sweep_over_reuse_compares_scores_that_differ_in_it_alone():
    shared = {"n": 100, "nfe": 50}
    none = {**shared, "sampler": {"name": "euler", "reuse": {"name": "none"}}}
    kept = {
        **shared,
        "encoder_nfe": 10,
        "sampler": {"name": "euler", "reuse": {"name": "uniform", "ratio": 0.8, "depth": None}},
    }
    protocols = [of_scores(protocol) for protocol in (none, kept)]
    assert len(variants(protocols, ["sampler.reuse"])) == 1
    assert len(variants(protocols, ["guidance.scale"])) == 2

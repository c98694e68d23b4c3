"""Another architecture in the same run directory, and the parameters a tracker gets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from composing import composed
from hydra.core.hydra_config import HydraConfig

from dit_exp.build import build, run
from dit_exp.errors import UserError
from dit_exp.task.directory import locked
from dit_exp.task.record import flatten, revision
from dit_exp.task.train import train

TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler.steps=2", "model.width=32",
    "model.depth=1", "model.heads=4", "trainer.max_steps=1", "trainer.batch_size=8",
]  # fmt: skip


def parts(run_dir: Path, *overrides: str):
    cfg, choices = composed([*TINY, *overrides])
    return build(cfg, choices, [], run_dir)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            "attn=gqa",
            "attn._target_: dit_exp.attn.mha.MultiHeadAttention in the run directory, dit_exp",
        ),
        ("model.heads=8", "model.heads: 4 in the run directory, 8 in the command"),
        ("process=cosine", "process.start: 0.0001 in the run directory, None in the command"),
        (
            "weighting=min_snr",
            "\n  weighting._target_: dit_exp.weighting.none.NoWeighting in the run directory, dit_exp",
        ),
        ("trainer.batch_size=4", "trainer.batch_size: 8 in the run directory, 4 in the command"),
        ("seed=5", "seed: 0 in the run directory, 5 in the command"),
    ],
)
def test_a_run_directory_of_another_run_is_refused_untouched(tmp_path: Path, given: str, line: str):
    train(parts(tmp_path))
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(UserError) as refused:
        train(parts(tmp_path, given))
    assert line in str(refused.value)
    assert "Pass another run_dir, or trainer.resume=false" in str(refused.value)
    assert (tmp_path / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "task", [("task=cache", "task.path=latents"), ("task=autoencoder", "autoencoder=fsq_small")]
)
@pytest.mark.parametrize("choice", ["augment=edm", "alignment=repa"])
def test_what_a_model_s_training_does_is_refused_where_images_are_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: tuple[str, ...], choice: str
):
    cfg, choices = composed([*task, choice, "data=digits", "tracker=none", "metrics=none"])
    runtime = SimpleNamespace(output_dir=str(tmp_path), choices=choices)
    hydra = SimpleNamespace(runtime=runtime, overrides=SimpleNamespace(task=[]))
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    with pytest.raises(UserError) as refused:
        run(cfg)
    assert str(refused.value) == (
        f"{choice} is for the training of a model, and {task[0]} would do nothing with it. Leave it out."
    )


def test_a_checkpoint_of_another_architecture_is_told_key_by_key(tmp_path: Path):
    train(parts(tmp_path))
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError) as refused:
        train(parts(tmp_path, "attn=gqa"))
    assert "is of another architecture" in str(refused.value)
    assert "blocks.0.attn.qkv.weight: (96, 32) in the file, (64, 32) in the model" in str(refused.value)
    assert "Pass another run_dir, or trainer.resume=false" in str(refused.value)


def test_a_run_directory_serves_one_process_at_a_time(tmp_path: Path):
    run = parts(tmp_path)
    with (
        locked(tmp_path),
        pytest.raises(UserError, match=rf"run_dir={tmp_path} is in use by another process"),
    ):
        train(run)
    assert not (tmp_path / "config.yaml").exists()


def test_image_size_and_classes_flow_from_the_data(tmp_path: Path):
    run = parts(tmp_path, "data.image_size=12", "objective=eps_hybrid")
    assert run.latent_shape == (3, 12, 12)
    assert run.model.num_classes == 10
    assert run.model.head.out_features == 4 * 4 * 6
    assert len(run.model.position[0]) == 9


def test_equal_seeds_start_from_equal_weights_and_other_seeds_do_not(tmp_path: Path):
    a, b, c = (parts(tmp_path, f"seed={s}").model.patch.weight for s in (1, 1, 2))
    assert a.equal(b)
    assert not a.equal(c)


def test_parameters_are_the_choices_and_their_keys(tmp_path: Path):
    run = parts(tmp_path, "attn=gqa", "attn.kv_heads=1")
    flat = flatten(run.config, run.choices)
    assert flat["attn"] == "gqa"
    assert flat["attn.kv_heads"] == 1
    assert flat["model.depth"] == 1
    assert flat["seed"] == 0
    assert "model.attn" not in flat
    assert not any("_target_" in key for key in flat)


def test_the_revision_is_the_commit_of_this_checkout():
    code = revision()
    assert len(code["git_commit"]) == 40 or code["git_commit"] == "unknown"
    assert code["git_dirty"] in ("True", "False", "unknown")

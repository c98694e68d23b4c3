"""A run on cached latents from training to images, also where cache and autoencoder have moved."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import composed
from encoding import encoding, using

from dit_exp import checkpoint
from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.task import generate as generating
from dit_exp.task.cache import cache
from dit_exp.task.generate import DECODED, generate
from dit_exp.task.sample import sample
from dit_exp.task.train import train

TINY = [
    "tracker=none", "metrics=none", "model.width=32", "model.depth=1", "model.heads=4", "model.patch_size=2",
    "sampler.steps=2", "sampler.clip=false", "trainer.batch_size=16", "trainer.warmup_steps=0",
    "optimizer.lr=1e-2",
]  # fmt: skip


def parts(run_dir: Path, *given: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed(list(given))
    return build(cfg, choices, list(given), run_dir)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents")
    cache(
        encoding(folder / "encoding", *using("Blurred"), "data.flip=true"), str(folder / "cache"), shard=400
    )
    run = parts(folder / "run", *TINY, "data=latents", f"data.root={folder}/cache", "trainer.max_steps=6")
    train(run)
    return folder


def test_a_run_that_broke_off_draws_the_same_latents_again(root: Path, tmp_path: Path):
    words = [*TINY, "data=latents", f"data.root={root}/cache"]
    train(parts(tmp_path / "broken", *words, "trainer.max_steps=3"))
    train(parts(tmp_path / "broken", *words, "trainer.max_steps=6"))
    (_, whole), (_, resumed) = (checkpoint.find(str(f)) for f in (root / "run", tmp_path / "broken"))
    assert whole["step"] == resumed["step"] == 6
    for key, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][key]), key


def test_a_checkpoint_draws_images_of_the_original_size_and_knows_its_autoencoder(root: Path, tmp_path: Path):
    run = parts(tmp_path / "out", "tracker=none", f"checkpoint={root}/run")
    [samples] = generate(run, run.model, 5, 5)
    assert samples.images.shape == (5, 3, 8, 8)
    assert run.config["autoencoder_identity"] == "blurred 2.0"
    assert run.choices["data"] == "latents"


def test_a_cache_that_has_moved_needs_its_header_alone_to_draw(root: Path, tmp_path: Path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    shutil.copy(root / "cache" / "header.json", copy)
    stored = torch.load(next((root / "run" / "checkpoints").glob("*.pt")), weights_only=True)
    stored["config"]["data"]["root"] = "/gone"
    checkpoint.save(stored, checkpoint.path_of(tmp_path / "moved", 6), keep=1)
    with pytest.raises(UserError, match=r"data\.root=/gone is no cache of latents"):
        parts(tmp_path / "out", "tracker=none", f"checkpoint={tmp_path}/moved")
    given = ["tracker=none", "data=latents", f"data.root={copy}"]
    run = parts(tmp_path / "out", *given, f"checkpoint={tmp_path}/moved")
    there = parts(tmp_path / "out", "tracker=none", f"checkpoint={root}/run")
    [a], [b] = (list(generate(r, r.model, 5, 5)) for r in (run, there))
    assert torch.equal(a.images, b.images)


def test_a_run_s_autoencoder_is_checked_where_the_data_are_images(root: Path, tmp_path: Path):
    words = [*TINY, "data=digits", "data.image_size=8", "trainer.max_steps=1", *using("Halves")]
    train(parts(tmp_path / "pixels", *words))
    stored = torch.load(next((tmp_path / "pixels" / "checkpoints").glob("*.pt")), weights_only=True)
    stored["config"]["autoencoder_identity"] = "halves 3.0"
    checkpoint.save(stored, checkpoint.path_of(tmp_path / "other", 1), keep=1)
    with pytest.raises(UserError, match=r"of the autoencoder halves 3\.0, and this one is halves 2\.0"):
        parts(tmp_path / "out", "tracker=none", f"checkpoint={tmp_path}/other")


def test_every_latent_is_decoded_once_in_batches_of_fifty(root: Path, tmp_path: Path):
    run = parts(tmp_path / "out", "tracker=none", f"checkpoint={root}/run")
    pieces = list(generate(run, run.model, 240, 120))
    assert run.autoencoder.decoded == [50, 50, 20] * 2
    assert DECODED == 50
    assert [len(piece.images) for piece in pieces] == [120, 120]


@pytest.mark.parametrize("kind", ["png", "npz"])
def test_never_more_than_two_pieces_of_images_are_in_memory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    alive, most, seen = 0, 0, 0
    decode = generating.decode

    def counted(parts, latent):
        nonlocal alive, most, seen
        array = decode(parts, latent).numpy()

        def gone() -> None:
            nonlocal alive
            alive -= len(latent)

        weakref.finalize(array, gone)  # the tensor and what is cut from it keep the array
        alive, seen = alive + len(array), seen + len(array)
        most = max(most, alive)
        return torch.from_numpy(array)

    run = parts(tmp_path / "out", "tracker=none", f"checkpoint={root}/run")
    monkeypatch.setattr("dit_exp.task.sample.draw_grid", lambda *_: (tmp_path / "out/samples.png").touch())
    monkeypatch.setattr("dit_exp.task.sample.draw_progress", lambda *_: None)
    monkeypatch.setattr(generating, "decode", counted)
    sample(run, num_images=100, format=kind, batch_size=10)
    assert seen == 100
    assert most <= 20
    if kind == "npz":
        monkeypatch.undo()
        expected = torch.cat([piece.images for piece in generate(run, run.model, 100, 10)])
        arrays = np.load(tmp_path / "out" / "samples.npz")
        assert np.array_equal(arrays["arr_0"], expected.permute(0, 2, 3, 1).numpy())
        assert arrays["label"].tolist() == [i % 10 for i in range(100)]
        assert not (tmp_path / "out" / "samples.parts").exists()

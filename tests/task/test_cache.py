"""A cache of latents: the bytes are those of the images whatever broke off and however many worked at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from encoding import SMALL, encoding, using
from test_parallel import RANKS, torchrun

from dit_exp.data import header
from dit_exp.errors import UserError
from dit_exp.images import to_model_range
from dit_exp.task import cache as caching
from dit_exp.task.cache import absolute, cache

PROJECT = Path(__file__).parents[2]
TESTS = str(PROJECT / "tests")
FLIPPED = "data.flip=true"


def made(folder: Path, *overrides: str, **keys) -> Path:
    """A cache of the digits in shards of 400."""
    cache(encoding(folder / "run", FLIPPED, *overrides), str(folder / "cache"), shard=400, **keys)
    return folder / "cache"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("whole"), *using("Halves"))


def test_shards_hold_the_statistics_of_every_image_and_of_it_mirrored(whole: Path):
    of = encoding(whole.parent / "run", *using("Halves"))
    for split, count in (("train", 1500), ("test", 297)):
        images = to_model_range(torch.cat(list(of.data.images(split))))
        stored = [np.load(path) for path in sorted(whole.glob(f"{split}-0*.npy"))]
        assert [len(shard) for shard in stored] == ([400, 400, 400, 300] if split == "train" else [297])
        shards = torch.from_numpy(np.concatenate(stored))
        assert shards.shape == (count, 2, 3, 4, 4)
        for side, view in enumerate((images, images.flip(-1))):
            assert torch.equal(shards[:, side], of.autoencoder.statistics(view))
        assert np.array_equal(np.load(whole / f"{split}-labels.npy"), of.data.labels(split))
    assert not list(whole.glob("*.part"))


def test_the_header_names_what_made_it_and_the_size_a_model_sees(whole: Path):
    told = json.loads((whole / "header.json").read_text())
    of = encoding(whole.parent / "run", *using("Halves"))
    assert told["autoencoder"]["identity"] == "halves 2.0"
    assert told["autoencoder"]["latent_shape"] == [3, 4, 4]
    assert told["splits"]["train"] == {"identity": of.data.identity("train"), "count": 1500}
    assert (told["flips"], told["dtype"], told["shard"], told["shape"]) == (True, "float32", 400, [3, 4, 4])
    x = of.autoencoder.encode(to_model_range(torch.cat(list(of.data.images("train"))))).double()
    assert told["normalised"]["mean"] == pytest.approx(x.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert told["normalised"]["std"] == pytest.approx(x.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_a_stochastic_autoencoder_is_kept_as_mean_and_deviation(tmp_path: Path):
    folder = made(tmp_path, *using("Blurred"), held_out=False)
    shard = np.load(folder / "train-00000.npy")
    assert shard.shape == (400, 2, 6, 4, 4)
    assert np.all(shard[:, :, 3:] == 0.25)
    assert not list(folder.glob("test-*"))
    plain = made(tmp_path / "plain", *using("Halves"), held_out=False)
    variance = np.square([header.read(str(f)).normalised["std"] for f in (folder, plain)])
    assert variance[0] - variance[1] == pytest.approx(0.25, abs=0.01)  # (gain 2 x deviation 0.25) squared


def test_the_size_is_measured_on_images_from_all_over_the_split(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(caching, "MEASURED", 60)
    told = json.loads((made(tmp_path, *using("Halves"), held_out=False) / "header.json").read_text())
    stored = np.concatenate([np.load(path)[:, 0] for path in sorted(whole.glob("train-0*.npy"))])
    x = 2 * stored[[*range(20), *range(740, 760), *range(1480, 1500)]].astype(np.float64)
    assert told["normalised"]["mean"] == pytest.approx(x.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert told["normalised"]["std"] == pytest.approx(x.std((0, 2, 3)).tolist(), abs=1e-6)
    first = 2 * stored[:60].astype(np.float64)
    assert told["normalised"]["mean"] != pytest.approx(first.mean((0, 2, 3)).tolist(), abs=1e-3)


def test_half_precision_halves_the_files(whole: Path, tmp_path: Path):
    folder = made(tmp_path, *using("Halves"), held_out=False, dtype="float16")
    assert np.array_equal(
        np.load(folder / "train-00001.npy"), np.load(whole / "train-00001.npy").astype(np.float16)
    )


def test_latents_that_are_not_finite_are_told_before_they_are_kept(tmp_path: Path):
    with pytest.raises(UserError, match=r"are not finite in float16\. Use task\.dtype=float32"):
        made(tmp_path, "autoencoder._target_=test_cache.Huge", dtype="float16")
    assert not list((tmp_path / "cache").glob("train-0*"))


def test_latents_of_the_wrong_size_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made(tmp_path, *using("Halves", "gain=0.01"), held_out=False)
    assert "The latents are not of unit size" in caplog.text


def command(folder: Path, *overrides: str) -> list[str]:
    words = ["task=cache", *SMALL, FLIPPED, *using("Halves", *overrides), "task.shard=400"]
    return [str(PROJECT / "run.py"), *words, f"cache.path={folder}/cache", f"run_dir={folder}/run"]


@pytest.mark.system
def test_a_kill_costs_a_shard_and_changes_nothing(whole: Path, tmp_path: Path):
    env = {key: value for key, value in os.environ.items() if key not in RANKS} | {"PYTHONPATH": TESTS}
    words = [sys.executable, *command(tmp_path, "delay=0.002")]
    run = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
    second, end = tmp_path / "cache" / "train-00001.npy", time.monotonic() + 240
    while not second.exists():
        assert run.poll() is None, run.stderr and run.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    run.kill()
    run.communicate()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("train-0*.npy")}
    assert 2 <= len(before) < 4
    made(tmp_path, *using("Halves"))
    assert files(tmp_path / "cache") == files(whole)
    for path, written in before.items():  # what was there is not encoded again
        assert path.stat().st_mtime_ns == written


@pytest.mark.system
def test_two_processes_write_the_bytes_of_one(whole: Path, tmp_path: Path):
    done = torchrun(2, *command(tmp_path), PYTHONPATH=f"{PROJECT}:{TESTS}")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "cache") == files(whole)
    told = [json.loads((folder / "header.json").read_text()) for folder in (whole, tmp_path / "cache")]
    for of in told:
        del of["autoencoder"]["config"]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("overrides", "keys", "line"),
    [
        (using("Halves", "gain=3"), {}, "autoencoder: halves 2.0 there, halves 3.0 here"),
        (using("Halves"), {"dtype": "float16"}, "dtype: float32 there, float16 here"),
        ([*using("Halves"), "data.image_size=16"], {}, "shape: [3, 4, 4] there, [3, 8, 8] here"),
        ([*using("Halves"), "data.flip=false"], {}, "flips: True there, False here"),
    ],
)
def test_another_cache_is_not_written_over(whole: Path, tmp_path: Path, overrides, keys, line: str):
    before = files(whole)
    with pytest.raises(UserError) as refused:
        cache(encoding(tmp_path, FLIPPED, *overrides), str(whole), shard=400, **keys)
    assert str(refused.value).startswith(f"cache.path={whole} holds another cache:\n")
    assert line in str(refused.value)
    assert str(refused.value).endswith("Pass another folder.")
    assert files(whole) == before


def test_shards_without_a_header_are_not_taken_for_this_cache_s(whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path / "cache")
    (tmp_path / "cache" / "header.json").unlink()
    before = files(tmp_path / "cache")
    with pytest.raises(
        UserError, match=r"cache holds test-00000\.npy and no header\.json, which says what made"
    ):
        made(tmp_path, *using("Halves", "gain=3"))
    assert files(tmp_path / "cache") == before


def test_a_shard_that_is_kept_is_of_the_shape_and_precision_of_the_others(whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path / "cache")
    path = tmp_path / "cache" / "train-00002.npy"
    np.save(path, np.load(path)[:, :1])
    with pytest.raises(
        UserError, match=r"train-00002\.npy is not of this cache: it holds \(400, 1, 3, 4, 4\)"
    ):
        made(tmp_path, *using("Halves"))
    path.write_bytes((whole / path.name).read_bytes()[:-4])
    with pytest.raises(UserError, match=r"train-00002\.npy is cut short \(\d+ of \d+ bytes\)\. Remove it"):
        made(tmp_path, *using("Halves"))


def test_a_folder_in_use_is_refused(tmp_path: Path):
    from dit_exp.task.directory import locked

    (tmp_path / "cache").mkdir()
    with locked(tmp_path / "cache"), pytest.raises(UserError, match=r"cache\.path=.* is in use by another"):
        made(tmp_path, *using("Halves"))


def test_places_are_written_from_the_root_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    config = {"_target_": "run", "checkpoint": "run", "gain": 2.0, "name": "none here"}
    assert absolute(config) == config | {"checkpoint": str(tmp_path / "run")}


class Huge:
    """Latents that half precision cannot hold."""

    bounds, stochastic = None, False

    def __init__(self, checkpoint: None = None) -> None:
        """A key of autoencoder=identity, whose place it takes."""

    def latent_shape(self, image_shape):
        return image_shape

    def identity(self) -> str:
        return "huge"

    def statistics(self, image):
        return image.abs().clamp(min=1) * 1e6

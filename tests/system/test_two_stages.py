"""Two stages by the README's commands, on real faces; the first in two processes, by torchrun, as in one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dit_exp import checkpoint
from dit_exp.trainer.history import read_rows

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.system
STAGE = [
    str(PROJECT / "run.py"), "task=autoencoder", "data=digits", "data.image_size=16", "tracker=none",
    "metrics=none", "device=cpu", "autoencoder.widths=[8,16]", "autoencoder.layers=1", "autoencoder.groups=4",
    "perceptual=none", "discriminator.start=1", "discriminator.width=4", "discriminator.layers=1",
    "discriminator.lr=1e-3", "optimizer.lr=1e-3", "trainer.max_steps=4", "trainer.batch_size=16",
    "trainer.log_every=1", "trainer.ema_decay=0.9", "trainer.warmup_steps=0", "task.codebook_every=2",
    "task.images=20", "task.scale_images=100", "task.batch_size=6",
]  # fmt: skip


def ran(*words: str, cwd: Path | None = None) -> None:
    env = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    done = subprocess.run(
        [sys.executable, *words],
        env=env | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def twice(run_dir: Path, *words: str) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    ran(*torchrun, *STAGE, f"run_dir={run_dir}", *words)


def test_both_networks_meet_their_gradients(tmp_path: Path):
    words = ("autoencoder=fsq", "discriminator.adaptive=false")
    twice(tmp_path / "two", *words)
    ran(*STAGE, f"run_dir={tmp_path / 'one'}", "trainer.accumulate=2", *words)
    one, two = (checkpoint.find(str(tmp_path / name))[1] for name in ("one", "two"))
    for key, value in one["model"].items():
        assert torch.equal(value, two["model"][key]), key
    judges = [state["objective"]["_extra_state"]["discriminator"]["network"] for state in (one, two)]
    for key, value in judges[0].items():
        assert torch.equal(value, judges[1][key]), key
    for name in ("history.jsonl", "codebook.jsonl"):
        assert read_rows(tmp_path / "one" / name) == read_rows(tmp_path / "two" / name)


def test_a_codebook_is_one_for_all_processes_and_counts_the_codes_of_all(tmp_path: Path):
    twice(tmp_path / "two", "autoencoder=vq", "autoencoder.codebook_size=32")
    rows = read_rows(tmp_path / "two" / "codebook.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    book = checkpoint.autoencoder(str(tmp_path / "two"))[1]["model"]["quantizer._codebook.cluster_size"]
    # The averages count both processes' places: 16 images of 8x8, where one process has half of them.
    assert float(book.sum()) > 16 * 64 * 0.9


def test_every_code_that_nobody_used_is_restarted_by_several_processes_and_counted(tmp_path: Path):
    twice(tmp_path / "two", "autoencoder=vq", "autoencoder.codebook_size=4096")
    rows = read_rows(tmp_path / "two" / "codebook.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        # Two steps have 16 images of 8x8 places each, and a process has 512 places of the last one.
        assert row["used"] <= 2048
        assert row["restarted"] == 4096 - row["used"] > 512


# What makes each command of the README small; later words win over earlier ones.
TINY = {
    "experiment=small/celeba_stage1": [
        "data.image_size=32", "autoencoder.widths=[8,16,16]", "autoencoder.groups=4",
        "autoencoder.codebook_size=64", "perceptual=none", "discriminator.start=4", "discriminator.width=4",
        "discriminator.layers=1", "trainer.max_minutes=null", "trainer.max_steps=10", "trainer.batch_size=8",
        "trainer.sample_every=0", "task.score_every=0", "task.codebook_every=5", "task.images=20",
        "task.scale_images=300", "metrics=none", "tracker=none", "device=cpu",
    ],
    "task=cache": ["data.image_size=32", "task.shard=400", "device=cpu"],
    "experiment=small/celeba_stage2": [
        "model.width=32", "model.depth=1", "model.heads=4", "trainer.max_minutes=null", "trainer.max_steps=4",
        "trainer.batch_size=8", "task.validation_images=20", "metrics=none", "tracker=none", "device=cpu",
    ],
    "task=sample": ["task.num_images=3", "sampler.steps=2", "tracker=none", "run_dir=samples"],
}  # fmt: skip


@pytest.fixture
def faces(celeba: Path, tmp_path: Path) -> Path:
    """A folder of a thousand real faces, which stand for both splits."""
    folder = tmp_path / "faces"
    folder.mkdir()
    [shard] = celeba.glob("validation-*.parquet")
    for split in ("train", "validation"):
        (folder / f"{split}-00000-of-00001.parquet").symlink_to(shard.resolve())
    return folder


def test_the_commands_of_the_readme_lead_from_faces_to_samples(faces: Path, tmp_path: Path):
    section = (PROJECT / "README.md").read_text().split("## Two stages")[1]
    commands = section.split("```")[1].strip().splitlines()
    assert len(commands) == len(TINY)
    for command, (begins, tiny) in zip(commands, TINY.items(), strict=True):
        python, program, *words = shlex.split(command.replace("FACES", str(faces)))
        assert (python, program, words[0]) == ("python", "run.py", begins)
        ran(str(PROJECT / program), *words, *tiny, cwd=tmp_path)

    _, first = checkpoint.autoencoder(str(tmp_path / "runs/stage1"))
    assert int(first["model"]["measured"]) == 300
    header = json.loads((tmp_path / "runs/latents/header.json").read_text())
    assert header["autoencoder"]["choice"] == "vq_small"
    assert header["autoencoder"]["latent_shape"] == header["shape"] == [4, 8, 8]
    assert {split: told["count"] for split, told in header["splits"].items()} == {
        "train": 1000,
        "validation": 1000,
    }
    # The scale was measured on 300 of these 1,000 faces, unmirrored, so the latents are nearly of unit size.
    assert np.abs(header["normalised"]["mean"]).max() < 0.1
    assert np.abs(np.array(header["normalised"]["std"]) - 1).max() < 0.1
    _, second = checkpoint.find(str(tmp_path / "runs/stage2"))
    assert second["step"] == 4
    assert second["choices"]["autoencoder"] == "vq_small"
    assert second["config"]["autoencoder_identity"] == header["autoencoder"]["identity"]
    [row] = read_rows(tmp_path / "runs/stage2/curve.jsonl")
    assert 0.5 < row["validation_loss"] < 4  # of v, whose variance is about 2
    drawn = sorted((tmp_path / "samples").rglob("*.png"))
    images = [path for path in drawn if re.fullmatch(r"\d+\.png", path.name)]
    assert len(images) == 3
    assert {Image.open(path).size for path in images} == {(32, 32)}

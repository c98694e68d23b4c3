"""The first stage in two processes, by torchrun, is that of one that passes each batch in two pieces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


def ran(*words: str) -> None:
    env = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    done = subprocess.run(
        [sys.executable, *words],
        env=env | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
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

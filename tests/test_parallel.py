"""Several processes: who is who, and that they are together what one process is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dit_exp import checkpoint, parallel
from dit_exp.data.feed import ArrayFeed
from dit_exp.parallel import World
from dit_exp.trainer.history import read_rows

PROJECT = Path(__file__).parents[1]
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, World(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, World(3, 8, 1)),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, World(2, 4, 0)),
        # a shell in an allocation of four tasks, and a batch script before srun
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, World(0, 1, 0)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, World(0, 1, 0)),
        # torchrun inside a Slurm step counts, since it knows its own processes
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "SLURM_STEP_NUM_TASKS": "4"}, World(1, 2, 1)),
    ],
)
def test_ranks_come_from_torchrun_or_a_slurm_step_or_neither(env, expected, monkeypatch):
    for name in (*RANKS, "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert parallel.world() == expected


def test_the_shares_of_the_processes_are_the_batches_of_one():
    images = torch.arange(200, dtype=torch.uint8).reshape(50, 1, 2, 2).numpy()
    labels = torch.arange(50).numpy()

    def first(batch_size: int, rank: int, world: int, count: int):
        feed = ArrayFeed(images, labels, batch_size, seed=3, rank=rank, world=world, flip=True).batches()
        return [next(feed) for _ in range(count)]

    whole = first(12, 0, 1, 9)
    shares = [first(4, rank, 3, 9) for rank in range(3)]
    for step, batch in enumerate(whole):
        assert torch.equal(batch.label, torch.cat([share[step].label for share in shares]))
        assert torch.equal(batch.image, torch.cat([share[step].image for share in shares]))


SCRIPT = """
import json, sys, torch
from dit_exp import parallel
here = parallel.start()
out = {}
out["from_main"] = parallel.from_main(lambda: here.rank + 10)
try:
    parallel.from_main(lambda: 1 / 0)
except ZeroDivisionError as error:
    out["raised"] = str(error)
out["gathered"] = parallel.gathered(here.rank * 2)
out["mean"] = parallel.mean(torch.tensor([float(here.rank), 4.0])).tolist()
out["largest"] = parallel.largest(here.rank, -here.rank)
order = []
with parallel.main_first():
    import time, pathlib
    mark = pathlib.Path(sys.argv[1]) / "mark"
    if here.main:
        time.sleep(0.5)
        mark.touch()
    out["after_main"] = mark.exists()
(pathlib.Path(sys.argv[1]) / f"{here.rank}.json").write_text(json.dumps(out))
parallel.stop()
"""


def torchrun(
    processes: int, *arguments: str, timeout: int = 240, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = (
        {key: value for key, value in os.environ.items() if key not in RANKS}
        | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(PROJECT),
        }
        | variables
    )
    return subprocess.run(
        [*command, *arguments], env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.system
def test_what_processes_tell_each_other(tmp_path: Path):
    script = tmp_path / "talk.py"
    script.write_text(SCRIPT)
    done = torchrun(2, str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "from_main": 10,
            "raised": "division by zero",
            "gathered": [0, 2],
            "mean": [0.5, 4.0],
            "largest": [1.0, 0.0],
            "after_main": True,
        }


TINY = [
    str(PROJECT / "run.py"), "data=digits", "data.image_size=8", "tracker=none", "metrics=quick",
    "metrics.num_samples=24", "metrics.reference_samples=50", "sampler.steps=2", "model.width=32",
    "model.depth=2", "model.heads=4", "trainer.batch_size=32", "trainer.checkpoint_every=10",
    "trainer.log_every=7", "trainer.warmup_steps=5", "task.batch_size=10", "task.validation_images=150",
    "timesteps=importance", "timesteps.bins=8", "timesteps.history=2", "weighting=uncertainty",
    "augment=edm", "alignment=repa", "alignment.width=32", "teacher.image_size=32",
]  # fmt: skip


def stored(run_dir: Path) -> dict:
    return checkpoint.find(str(run_dir))[1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """One process that passes each batch in two pieces."""
    folder = tmp_path_factory.mktemp("alone")
    words = [sys.executable, *TINY, f"run_dir={folder}/run", "trainer.accumulate=2", "trainer.max_steps=20"]
    env = {key: value for key, value in os.environ.items() if key not in RANKS} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.system
def test_two_processes_train_sample_and_score_as_one_does_bit_for_bit(alone: Path, tmp_path: Path):
    done = torchrun(2, *TINY, f"run_dir={tmp_path}/run", "trainer.max_steps=20")
    assert done.returncode == 0, done.stderr
    assert read_rows(tmp_path / "run" / "history.jsonl") == read_rows(alone / "history.jsonl")
    one, two = stored(alone), stored(tmp_path / "run")
    for part in ("model", "ema", "objective", "alignment"):
        assert one[part]
        for key, value in one[part].items():
            same = torch.equal if isinstance(value, torch.Tensor) else dict.__eq__
            assert same(value, two[part][key]), f"{part} {key}"
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (alone, tmp_path / "run")]
    assert metrics[0]["scores"] == metrics[1]["scores"]
    assert metrics[0]["validation_loss"] == metrics[1]["validation_loss"]
    assert [m["processes"] for m in metrics] == [1, 2]
    assert (alone / "samples.png").read_bytes() == (tmp_path / "run" / "samples.png").read_bytes()

    # and the images of a trained model, one by one
    folders = [tmp_path / "one", tmp_path / "two"]
    words = ["task=sample", f"checkpoint={alone}", "task.num_images=25", "task.batch_size=10", "tracker=none"]
    for processes, folder in zip((1, 2), folders, strict=True):
        done = torchrun(processes, str(PROJECT / "run.py"), *words, f"run_dir={folder}")
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (folders[0] / "samples").iterdir())
    assert len(names) == 25
    assert names == sorted(path.name for path in (folders[1] / "samples").iterdir())
    for name in names:
        pictures = [(folder / "samples" / name).read_bytes() for folder in folders]
        assert pictures[0] == pictures[1], name


@pytest.mark.system
def test_shards_of_two_processes_go_on_in_one_and_back_in_two(alone: Path, tmp_path: Path):
    run = tmp_path / "run"
    done = torchrun(2, *TINY, f"run_dir={run}", "trainer.max_steps=10", "trainer.strategy=fsdp")
    assert done.returncode == 0, done.stderr
    shards = run / "checkpoints" / "step_00000010.shards"
    assert len(list(shards.glob("*.safetensors"))) == 2
    sizes = sum(path.stat().st_size for path in shards.glob("*.safetensors"))
    weights = sum(value.numel() for value in stored(run)["model"].values())
    assert sizes < 1.2 * 4 * 4 * weights  # model, average and two moments, each once

    # one process reads them; the budget has grown
    words = [sys.executable, *TINY, f"run_dir={run}", "trainer.accumulate=2", "trainer.max_steps=15"]
    env = {key: value for key, value in os.environ.items() if key not in RANKS} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    done = torchrun(2, *TINY, f"run_dir={run}", "trainer.max_steps=20", "trainer.strategy=fsdp")
    assert done.returncode == 0, done.stderr
    rows, expected = read_rows(run / "history.jsonl"), read_rows(alone / "history.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in expected] == list(range(1, 21))
    for row, other in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert row["alignment"] == pytest.approx(other["alignment"], rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)


@pytest.mark.system
def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path):
    done = torchrun(2, *TINY, f"run_dir={tmp_path}/run", "trainer.batch_size=33", "trainer.max_steps=2")
    assert done.returncode != 0
    assert "trainer.batch_size=33 does not divide by 2 processes" in done.stderr

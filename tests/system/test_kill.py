"""kill -9 at any moment, the same command again: bit by bit what an unbroken run ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dit_exp import checkpoint
from dit_exp.trainer.history import read_rows

PROJECT = Path(__file__).parents[2]
COMMAND = [
    sys.executable, str(PROJECT / "run.py"), "data=digits", "data.image_size=8", "tracker=none",
    "metrics=none", "sampler.steps=2", "model.width=64", "model.depth=2", "model.heads=4",
    "trainer.batch_size=32", "trainer.max_steps=400", "trainer.checkpoint_every=20", "trainer.log_every=7",
    "trainer.warmup_steps=30",
]  # fmt: skip

pytestmark = pytest.mark.system


def start(run_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, f"run_dir={run_dir}"],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def until_step(run: subprocess.Popen[str], run_dir: Path, step: int) -> None:
    """Waits until the trace has passed a step."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        rows = read_rows(run_dir / "history.jsonl")
        if rows and rows[-1]["step"] >= step:
            return
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        time.sleep(0.01)
    raise TimeoutError(f"{run_dir} did not reach step {step}")


def finish(run: subprocess.Popen[str]) -> None:
    _, text = run.communicate(timeout=300)
    assert run.returncode == 0, text


def test_killed_runs_end_as_an_unbroken_one(tmp_path: Path):
    finish(start(tmp_path / "whole"))
    for step in (1, 90, 230):
        run = start(tmp_path / "broken")
        until_step(run, tmp_path / "broken", step)
        run.kill()
        run.wait()
    finish(start(tmp_path / "broken"))
    (_, whole), (_, broken) = (checkpoint.find(str(tmp_path / name)) for name in ("whole", "broken"))
    assert whole["step"] == broken["step"] == 400
    for part in ("model", "ema"):
        for key, value in whole[part].items():
            assert torch.equal(value, broken[part][key]), f"{part} {key}"
    traces = [(tmp_path / name / "history.jsonl").read_bytes() for name in ("whole", "broken")]
    assert traces[0] == traces[1]
    pictures = [(tmp_path / name / "samples.png").read_bytes() for name in ("whole", "broken")]
    assert pictures[0] == pictures[1]


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path):
    run = start(tmp_path / "a")
    until_step(run, tmp_path / "a", 30)
    os.kill(run.pid, signal.SIGTERM)
    _, text = run.communicate(timeout=120)
    assert run.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM after step" in text
    assert f"run_dir={tmp_path}/a" in text
    assert "Traceback" not in text
    _, stored = checkpoint.find(str(tmp_path / "a"))
    assert read_rows(tmp_path / "a" / "history.jsonl")[-1]["step"] == stored["step"]


def test_sigterm_ends_a_whole_sweep(tmp_path: Path):
    words = [*COMMAND[:2], "-m", "seed=0,1", *COMMAND[2:], f"run_dir={tmp_path}/s"]
    run = subprocess.Popen(words, cwd=PROJECT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until_step(run, tmp_path / "s" / "0", 30)
    os.kill(run.pid, signal.SIGTERM)
    _, text = run.communicate(timeout=120)
    assert run.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM after step" in text
    assert not (tmp_path / "s" / "1").exists()

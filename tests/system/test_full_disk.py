"""A small file system that runs full under a training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dit_exp import checkpoint

pytestmark = pytest.mark.system
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path: Path):
    """Four MiB of memory as a disk."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_run_on_a_full_disk_keeps_its_last_checkpoint_and_goes_on_after(small_disk: Path):
    command = [
        sys.executable, str(PROJECT / "run.py"), "data=digits", "data.image_size=8", "tracker=none",
        "metrics=none", "sampler.steps=2", "model.width=64", "model.depth=1", "model.heads=4",
        "trainer.batch_size=32", "trainer.warmup_steps=1", "trainer.checkpoint_every=10", "trainer.keep=1",
        f"run_dir={small_disk}/run",
    ]  # fmt: skip

    def run(steps: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, f"trainer.max_steps={steps}"], capture_output=True, text=True, timeout=300, check=False
        )

    assert run(20).returncode == 0
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(b"\0" * (free - 200_000))  # less than a checkpoint takes
    full = run(60)
    said = full.stdout + full.stderr
    assert full.returncode == 1, said
    assert "The checkpoint of step 30 could not be written" in said
    assert "The checkpoint of step 20 is untouched" in said
    assert "No space left on device. Free some space or pass run_dir=DIR on another disk." in full.stderr
    assert "Traceback" not in said
    assert checkpoint.newest(small_disk / "run")[1]["step"] == 20
    ballast.unlink()
    assert run(60).returncode == 0
    assert checkpoint.newest(small_disk / "run")[1]["step"] == 60

"""`make bench` runs to its end at tiny sizes, GPU rows included, and writes its table into a page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.system
def test_all_rows_run_at_tiny_sizes_and_the_table_is_written(tmp_path: Path):
    """Without a compiler, which would take five minutes to write what is then run for a second."""
    page = tmp_path / "performance.md"
    shutil.copy(PROJECT / "docs/performance.md", page)
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--write", str(page)]
    env = os.environ | {"TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = page.read_text().splitlines()
    found = {line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")}
    assert {
        "forward", "train step", "train step: share of peak", "sampling step", "memory", "optimizer", "data",
        "score", "start", "cost of growth", "utilisation",
    } <= found  # fmt: skip
    assert done.stdout.strip() in page.read_text()
    assert "these figures mean nothing" in done.stdout

"""A compiled run follows the plain one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dit_exp.trainer.history import read_rows

PROJECT = Path(__file__).parents[2]


@pytest.mark.system
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt-get install g++"
)
@pytest.mark.parametrize(
    ("tolerance", "extra"),
    [
        (1e-4, []),
        (1e-4, ["augment=edm", "alignment=repa", "alignment.width=32", "teacher.image_size=32"]),
        (1e-2, ["trainer.precision=bf16"]),
    ],
)
def test_a_compiled_run_has_the_losses_of_a_plain_one(tmp_path: Path, tolerance: float, extra: list[str]):
    for name in ("false", "true"):
        done = subprocess.run(
            [
                sys.executable, str(PROJECT / "run.py"), "data=digits", "data.image_size=8", "tracker=none",
                "metrics=none", "model.width=32", "model.depth=1", "model.heads=4", "trainer.max_steps=6",
                "trainer.batch_size=16", "trainer.warmup_steps=0", "optimizer.lr=1e-2", "sampler.steps=2",
                f"trainer.compile={name}", f"run_dir={tmp_path}/{name}", *extra,
            ],
            env=dict(os.environ), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    plain, compiled = (read_rows(tmp_path / name / "history.jsonl") for name in ("false", "true"))
    assert len(compiled) == 6
    for row, other in zip(plain, compiled, strict=True):
        for column in row.keys() & {"loss", "alignment"}:
            assert other[column] == pytest.approx(row[column], rel=tolerance, abs=1e-6)
    assert plain[-1]["loss"] < plain[0]["loss"]

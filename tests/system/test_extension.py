"""A part from a folder outside the project: one file and one yaml, through Hydra's search path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

ATTENTION = '''
from torch import Tensor, nn


class MeanAttention(nn.Module):
    """Every token hears the mean of all: (batch, tokens, width) -> the same."""

    def __init__(self, width: int, heads: int, strength: float = 1.0) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.strength = strength

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.strength * self.value(x.mean(1, keepdim=True)).expand_as(x)
'''
CHOICE = """
# Every token hears the mean of all.
_target_: my_lab.mean.MeanAttention
_partial_: true
strength: 0.5
"""


@pytest.mark.system
def test_an_attention_from_outside_the_project_trains(tmp_path: Path):
    for path, text in {
        "code/my_lab/__init__.py": "",
        "code/my_lab/mean.py": ATTENTION,
        "conf/attn/mean.yaml": CHOICE,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable, str(PROJECT / "run.py"), f"hydra.searchpath=[file://{tmp_path}/conf]",
                "attn=mean", "data=digits", "data.image_size=8", "tracker=none", "metrics=none",
                "model.width=32", "model.depth=1", "model.heads=4", "trainer.max_steps=3", "sampler.steps=2",
                f"run_dir={tmp_path}/run", *words,
            ],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert "my_lab.mean.MeanAttention" in (tmp_path / "run" / "config.yaml").read_text()
    assert (tmp_path / "run" / "samples.png").exists()
    done = run("attn.strenght=2")
    assert done.returncode == 2
    assert "Did you mean attn.strength?" in done.stderr

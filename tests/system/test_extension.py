"""Parts from a folder outside the project: one file and one yaml each, through Hydra's search path."""

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
MODEL = '''
from torch import Tensor, nn

from dit_exp.types.network import Model


class OneConvolution(Model):
    """One convolution that knows neither time nor label."""

    null_label = None
    class_dropout = 0.0

    def __init__(self, input_shape, out_channels: int, num_classes: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.conv(x)
'''
DATA = '''
import numpy as np

from dit_exp.data.arrays import ArrayData


class Stripes(ArrayData):
    """Black and white columns, no classes."""

    num_classes = 0
    class_names = ()

    def __init__(self, image_size: int = 8, flip: bool = False, count: int = 64) -> None:
        super().__init__(image_size, flip)
        self.count = count

    def check(self) -> None:
        pass

    def identity(self, split: str) -> str:
        return f"stripes-{split}-{self.image_size}-{self.count}"

    def arrays(self, split: str):
        row = np.where(np.arange(self.image_size) % 2, 255, 0).astype(np.uint8)
        shape = (self.count, 3, self.image_size, self.image_size)
        return np.broadcast_to(row, shape).copy(), np.zeros(self.count, np.int64)
'''
SAMPLER = '''
from torch import Tensor

from dit_exp.sampler.walk import Walk


class Jump(Walk):
    """Goes to the predicted image, then back to the next time with fresh noise."""

    def __init__(self, steps: int = 4, clip: bool = True) -> None:
        super().__init__(steps, clip)

    def step(self, x: Tensor, said, now, following, draw) -> Tensor:
        return following.alpha * said.x0 + following.sigma * draw()
'''
CHOICES = {
    "attn/mean": "_target_: my_lab.mean.MeanAttention\n_partial_: true\nstrength: 0.5\n",
    "model/conv": "_target_: my_lab.conv.OneConvolution\n_partial_: true\nkernel: 3\n",
    "data/stripes": "_target_: my_lab.stripes.Stripes\nimage_size: 8\nflip: false\ncount: 64\n",
    "sampler/jump": "_target_: my_lab.jump.Jump\nsteps: 4\nclip: true\n",
}
SMALL = ["tracker=none", "metrics=none", "trainer.max_steps=3", "sampler.steps=2"]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with four parts and their yamls."""
    sources = {"__init__": "", "mean": ATTENTION, "conv": MODEL, "stripes": DATA, "jump": SAMPLER}
    files = {f"code/my_lab/{name}.py": text for name, text in sources.items()}
    files |= {f"conf/{name}.yaml": f"# A part of another lab.\n{text}" for name, text in CHOICES.items()}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(lab: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "run.py"), f"hydra.searchpath=[file://{lab}/conf]", *words, *SMALL],
        env={**os.environ, "PYTHONPATH": str(lab / "code")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.system
def test_an_attention_from_outside_the_project_trains(lab: Path):
    tiny = ["data=digits", "data.image_size=8", "model.width=32", "model.depth=1", "model.heads=4"]
    done = run(lab, "attn=mean", *tiny, f"run_dir={lab}/run")
    assert done.returncode == 0, done.stderr
    assert "my_lab.mean.MeanAttention" in (lab / "run" / "config.yaml").read_text()
    assert (lab / "run" / "samples.png").exists()
    done = run(lab, "attn=mean", *tiny, "attn.strenght=2", f"run_dir={lab}/other")
    assert done.returncode == 2
    assert "Did you mean attn.strength?" in done.stderr


@pytest.mark.system
def test_a_model_a_data_set_and_a_sampler_from_outside_the_project_train(lab: Path):
    parts = ["model=conv", "data=stripes", "sampler=jump", "trainer.batch_size=8"]
    done = run(lab, *parts, f"run_dir={lab}/run")
    assert done.returncode == 0, done.stderr
    config = (lab / "run" / "config.yaml").read_text()
    for name in ("conv.OneConvolution", "stripes.Stripes", "jump.Jump"):
        assert f"my_lab.{name}" in config
    assert (lab / "run" / "samples.png").exists()

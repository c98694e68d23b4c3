"""Where a data set is kept decoded, one process decodes it while the others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from composing import composed
from encoding import encoding, using
from test_autoencoder import VQ, second_stage

from dit_exp import parallel
from dit_exp.build import build_stage
from dit_exp.data.digits import Digits
from dit_exp.grid.karras import Karras
from dit_exp.probe.rademacher import Rademacher
from dit_exp.task.cache import cache
from dit_exp.task.likelihood import measured
from dit_exp.task.reconstruct import Fidelity
from dit_exp.task.validate import validation_loss
from dit_exp.types.data import DataSet


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Of each split whose images are asked for, whether the main process was alone the first time."""
    found: dict[str, bool] = {}
    alone = False

    @contextmanager
    def main_first() -> Iterator[None]:
        nonlocal alone
        alone = True
        try:
            yield
        finally:
            alone = False

    images = Digits.images

    def watched(self: DataSet, split: str, count: int | None = None, start: int = 0):
        found.setdefault(split, alone)
        return images(self, split, count, start)

    monkeypatch.setattr(parallel, "main_first", main_first)
    monkeypatch.setattr(Digits, "images", watched)
    return found


def test_of_a_cache_of_latents(asked: dict[str, bool], tmp_path: Path):
    cache(encoding(tmp_path / "run", *using("Halves")), str(tmp_path / "cache"))
    assert asked == {"train": True, "test": True}


def test_of_a_first_stage_s_scores(asked: dict[str, bool], tmp_path: Path):
    stage = build_stage(*composed(VQ), VQ, tmp_path)
    Fidelity(stage, count=20, batch_size=6).prepare()
    assert asked == {"test": True}


def test_of_a_validation_loss_and_of_a_likelihood(asked: dict[str, bool], tmp_path: Path):
    parts = second_stage(tmp_path / "dit", "data.image_size=8")
    validation_loss(parts, parts.model, 10)
    assert asked == {"test": True}
    asked.clear()
    measured(parts, Karras()(parts.process, 3)[:-1], Rademacher(), images=2, probes=1, batch_size=2)
    assert asked == {"test": True}

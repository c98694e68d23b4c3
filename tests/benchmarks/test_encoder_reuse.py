"""The table of encoder reuse, from a tiny run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from composing import composed

from benchmarks import encoder_reuse
from dit_exp.build import build
from dit_exp.task.train import train

RUN = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler=euler", "sampler.steps=8",
    "model=ddt_b", "model.encoder_depth=2", "model.decoder_depth=1", "model.width=32", "model.heads=4",
    "model.patch_size=2", "trainer.max_steps=2", "trainer.batch_size=8", "trainer.warmup_steps=0",
    "trainer.ema_decay=0", "optimizer.lr=1e-2", "guidance=cfg", "process=flow", "objective=v",
]  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    cfg, choices = composed(RUN)
    train(build(cfg, choices, RUN, folder))
    return folder


class Mean:
    """A metric: the mean grey level."""

    num_samples = 5

    def prepare(self, data) -> None:
        self.levels = []

    def update(self, images, start=0) -> None:
        self.levels.append(images.float())

    def compute(self):
        return {"grey": float(torch.cat(self.levels).mean()), "other": 0.0}, {}


def test_each_way_draws_the_same_images_and_is_measured_against_keeping_nothing(run_dir, tmp_path):
    words = [f"checkpoint={run_dir}", "tracker=none", f"cache={tmp_path}"]
    cfg, choices = composed(words)
    parts = build(cfg, choices, words, tmp_path)
    parts.metrics = Mean()
    none, *kept = found = encoder_reuse.measure(parts, (0.0, 0.5, 0.87), 5, 2, None)
    assert [(way.ratio, way.name, way.encoder_evaluations) for way in found] == [
        (0.0, "none", 8),
        (0.0, "uniform", 8), (0.0, "planned", 8), (0.0, "forecast", 8),
        (0.5, "uniform", 4), (0.5, "planned", 4), (0.5, "forecast", 4),
        (0.87, "uniform", 1), (0.87, "planned", 1), (0.87, "forecast", 1),
    ]  # fmt: skip
    assert all(len(way.distance) == 5 and len(way.seconds) == 3 for way in found)
    assert all(set(way.distance) == {0.0} for way in (none, *kept[:3]))
    assert all(min(way.distance) > 0 for way in kept[3:])
    assert kept[0].score == none.score
    assert kept[3].score != none.score
    # One run, wherever it is placed, is the first evaluation, and no line goes through it.
    assert kept[6].distance == kept[7].distance == kept[8].distance


def test_times_are_medians_of_pairs_without_the_first_piece():
    class Parts:
        class sampler:
            evaluations = 8

    def way(name: str, seconds: list[float], distance: float):
        return encoder_reuse.Way(0.5, name, Parts, None, seconds, [distance], ("fd_toy", 3.14159))

    lines = encoder_reuse.table([way("none", [99, 4, 6, 8], 0), way("uniform", [1, 2, 2, 2], 0.25)], 10, 2)
    head, _, plain, kept = lines.splitlines()
    assert "fd_toy, n=10" in head
    assert plain == "| 0.5 | none | 8 of 8 | 3.0000 | 1.00 | 3.14 | 0.0000 |"
    assert kept == "| 0.5 | uniform | 8 of 8 | 1.0000 | 3.00 | 3.14 | 0.2500 |"


def test_the_command_prints_a_table(run_dir, tmp_path, capsys):
    encoder_reuse.main([str(run_dir), "--quick", f"cache={tmp_path}", "sampler.steps=4"])
    out = capsys.readouterr().out
    assert out.startswith("model=ddt_b, process=flow, objective=v, sampler=euler")
    rows = re.findall(r"^\| ([\d.]+) \| (\w+) \| (\d of 4) \|", out, re.MULTILINE)
    assert rows == [
        ("0", "none", "4 of 4"),
        ("0.5", "uniform", "2 of 4"), ("0.5", "planned", "2 of 4"), ("0.5", "forecast", "2 of 4"),
        ("0.75", "uniform", "1 of 4"), ("0.75", "planned", "1 of 4"), ("0.75", "forecast", "1 of 4"),
    ]  # fmt: skip
    assert out.count("not measured") == 7


def test_ways_are_chosen_by_name_and_an_unknown_one_is_refused(run_dir, tmp_path, capsys):
    words = [str(run_dir), "--quick", f"cache={tmp_path}", "sampler.steps=4", "--ratios", "0.5", "--placed"]
    encoder_reuse.main([*words, "forecast"])
    names = re.findall(r"^\| [\d.]+ \| (\w+) \|", capsys.readouterr().out, re.MULTILINE)
    assert names == ["none", "forecast"]
    with pytest.raises(SystemExit):
        encoder_reuse.main([*words, "forecast,nowhere"])
    assert "--placed nowhere: choose from uniform, planned, forecast" in capsys.readouterr().err


def test_a_run_without_a_metric_needs_a_number_of_images(run_dir, capsys):
    with pytest.raises(SystemExit):
        encoder_reuse.main([str(run_dir)])
    assert "pass --images N, or metrics=offline" in capsys.readouterr().err

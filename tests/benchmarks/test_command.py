"""A mistake of whoever calls a benchmark is told before anything is measured, and without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from composing import composed

from benchmarks import __main__ as table
from benchmarks.command import told
from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.task.train import train


def test_a_mistake_ends_a_command_with_its_text_and_code_2(capsys: pytest.CaptureFixture[str]):
    def mistaken() -> None:
        raise UserError("Pass something else.")

    assert told(mistaken) == 2
    assert capsys.readouterr().err == "Pass something else.\n"
    assert told(lambda: None) == 0
    assert told(lambda: 1) == 1


def test_a_failure_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        told(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--device", "gpu"], "device=gpu is no torch device"),
        (["--run", "/nowhere"], "/nowhere does not exist"),
        (["--ddt", "/nowhere"], "/nowhere does not exist"),
        (["--write", "/nowhere.md"], "--write /nowhere.md cannot be read"),
    ],
)
def test_the_table_refuses_what_it_could_not_use(
    words: list[str], text: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(table, "begin", lambda device: pytest.fail("It has begun."))
    with pytest.raises(UserError, match=text):
        table.main(words)


def test_a_run_without_scores_is_refused(tmp_path: Path):
    words = [
        "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "model.width=16", "model.depth=1",
        "model.heads=2", "model.patch_size=4", "trainer.max_steps=1", "trainer.batch_size=4",
    ]  # fmt: skip
    train(build(*composed(words), words, tmp_path))
    with pytest.raises(UserError, match="has metrics=none"):
        table.main(["--run", str(tmp_path)])


def test_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        table.main(["--rounds", "0"])
    assert "0 is no whole number from 1" in capsys.readouterr().err

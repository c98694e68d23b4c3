from __future__ import annotations

from pathlib import Path

import pytest

from dit_exp.task.parts import Setting
from dit_exp.tracker.none import NoTracker


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tracker.uri=http://host", True), ("++tracker.uri=http://host", True), ("tracker=mlflow", False),
        ("tracker.urin=x", False), ("task.sweep=tracker.uri=x", False),
    ],
)  # fmt: skip
def test_a_key_is_named_by_an_override_of_its_own(override: str, expected: bool):
    setting = Setting({}, {}, ["task=report", override], Path(), NoTracker())
    assert setting.names("tracker.uri") is expected

"""Signals outside the training loop, and what makes two configurations different runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dit_exp.errors import Stopped
from dit_exp.task.directory import differences, terminable


def test_sigterm_outside_the_loop_is_a_message_and_the_handler_goes_back(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    text = rf"Stopped by SIGTERM. The same command with run_dir={tmp_path}"
    with pytest.raises(Stopped, match=text) as stopped, terminable(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_where_data_lies_and_how_long_a_run_is_do_not_make_another_run():
    def config(**changes):
        trainer = {"batch_size": 8, "max_steps": changes.pop("max_steps", 1)}
        return {"seed": 0, "data": {"root": "/a", "image_size": 8}, "trainer": trainer} | changes

    assert differences(config(), config(max_steps=9, data={"root": "/b", "image_size": 8})) == []
    assert differences(config(), config(seed=1, data={"root": "/a", "image_size": 9})) == [
        "data.image_size: 8 in the run directory, 9 in the command",
        "seed: 0 in the run directory, 1 in the command",
    ]

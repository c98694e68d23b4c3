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
        data = {"root": "/a", "image_size": 8}
        return {"seed": 0, "data": data, "trainer": trainer, "task": {}} | changes

    assert differences(config(), config(max_steps=9, data={"root": "/b", "image_size": 8})) == []
    assert differences(config(), config(seed=1, data={"root": "/a", "image_size": 9})) == [
        "data.image_size: 8 in the run directory, 9 in the command",
        "seed: 0 in the run directory, 1 in the command",
    ]


def second(place: str, identity: str | None, images: str | None = None, **autoencoder):
    """A configuration of a run on latents; without an identity one of a time before it was told."""
    told = {} if identity is None else {"autoencoder_identity": identity}
    node = {"checkpoint": place, "source": place} | autoencoder
    return {"data": {"images": images}, "autoencoder": node, "trainer": {}, "task": {}} | told


def test_an_autoencoder_may_move_and_not_change():
    assert differences(second("/a", "x"), second("/b", "x", images="/c")) == []
    assert differences(second("/a", "x"), second("/a", "y")) == [
        "autoencoder_identity: x in the run directory, y in the command"
    ]
    assert differences(second("/a", "x", channels=4), second("/b", "x", channels=8)) == [
        "autoencoder.channels: 4 in the run directory, 8 in the command"
    ]


def test_where_no_identity_is_told_the_place_is_compared():
    assert differences(second("/a", None), second("/a", "x")) == []
    assert differences(second("/a", None), second("/b", "x")) == [
        "autoencoder.checkpoint: /a in the run directory, /b in the command",
        "autoencoder.source: /a in the run directory, /b in the command",
    ]

"""Pictures and masks from files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dit_exp.edit.picture import read, read_mask
from dit_exp.errors import UserError


def saved(path: Path, array: np.ndarray) -> str:
    Image.fromarray(array).save(path)
    return str(path)


def random(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_picture_of_the_model_s_size_is_read_as_it_is(tmp_path: Path, caplog):
    array = random(8, 8)
    with caplog.at_level(logging.INFO):
        read_in = read(saved(tmp_path / "a.png", array), "edit.image", 8)
    assert torch.equal(read_in, torch.from_numpy(array).permute(2, 0, 1)[None])
    assert not caplog.records


def test_another_size_is_cropped_and_resized_and_said(tmp_path: Path, caplog):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, 4:12] = 200  # the central square
    with caplog.at_level(logging.INFO):
        read_in = read(saved(tmp_path / "a.png", array), "edit.image", 4)
    assert read_in.shape == (1, 3, 4, 4)
    assert (read_in == 200).all()
    assert "is 16x8: its central square is taken and resized to 4x4." in caplog.text


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path):
    for mode in ("L", "LA", "RGBA", "P"):
        Image.new(mode, (4, 4)).save(tmp_path / "a.png")
        assert read(str(tmp_path / "a.png"), "edit.image", 4).shape == (1, 3, 4, 4)


def test_a_mask_follows_its_picture_s_crop(tmp_path: Path):
    beside = saved(tmp_path / "a.png", random(8, 16))
    mask = np.zeros((8, 16), np.uint8)
    mask[:, :8] = 255  # of the central square, the left half
    read_in = read_mask(saved(tmp_path / "m.png", mask), "edit.mask", 4, beside)
    assert read_in[0, 0].tolist() == [[255, 255, 0, 0]] * 4


def test_a_mask_of_the_model_s_size_is_taken_as_it_is_and_is_black_or_white(tmp_path: Path):
    beside = saved(tmp_path / "a.png", random(8, 16))
    mask = np.array([[0, 127], [128, 255]], np.uint8)
    read_in = read_mask(saved(tmp_path / "m.png", mask), "edit.mask", 2, beside)
    assert read_in.shape == (1, 3, 2, 2)
    assert read_in[0, 0].tolist() == [[0, 0], [255, 255]]


def test_a_mask_of_any_other_size_is_refused(tmp_path: Path):
    beside = saved(tmp_path / "a.png", random(8, 16))
    mask = saved(tmp_path / "m.png", random(5, 7))
    with pytest.raises(UserError, match=r"m.png is 7x5. A mask must have .* 16x8, or .* 4x4"):
        read_mask(mask, "edit.mask", 4, beside)


def test_what_is_no_picture_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"edit.image=.*none.png is no file. Pass edit.image=FILE.png"):
        read(str(tmp_path / "none.png"), "edit.image", 4)
    with pytest.raises(UserError, match=r"is no file"):
        read(str(tmp_path), "edit.image", 4)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"edit.image=.*text.png cannot be read as a picture"):
        read(str(tmp_path / "text.png"), "edit.image", 4)
    whole = Path(saved(tmp_path / "whole.png", random(64, 64))).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot be read as a picture"):
        read(str(tmp_path / "half.png"), "edit.image", 4)

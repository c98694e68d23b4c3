from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dit_exp.images import save_grid, save_png, to_model_range, to_uint8


def read(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path))


def test_all_256_grey_levels_survive_the_round_trip():
    grey = torch.arange(256, dtype=torch.uint8)
    scaled = to_model_range(grey)
    assert scaled.dtype == torch.float32
    assert (scaled[0], scaled[-1]) == (-1, 1)
    assert torch.equal(to_uint8(scaled), grey)


def test_grey_levels_survive_bfloat16_within_one():
    grey = torch.arange(256, dtype=torch.uint8)
    back = to_uint8(to_model_range(grey).bfloat16())
    assert (back.int() - grey.int()).abs().max() <= 1


def test_values_are_rounded_and_clamped():
    levels = torch.tensor([-9.0, -1 + 0.6 / 127.5, -1 + 0.4 / 127.5, 1 - 0.4 / 127.5, 9.0])
    assert to_uint8(levels).tolist() == [0, 1, 0, 255, 255]


def test_scaling_leaves_its_argument_alone():
    image = torch.tensor([0.5])
    grey = torch.tensor([7], dtype=torch.uint8)
    to_uint8(image)
    to_model_range(grey)
    assert (image.item(), grey.item()) == (0.5, 7)


def test_a_png_holds_the_pixels(tmp_path: Path):
    image = torch.randint(0, 256, (3, 5, 4), dtype=torch.uint8)
    save_png(image, tmp_path / "rgb.png")
    save_png(image[:1], tmp_path / "grey.png")
    assert np.array_equal(read(tmp_path / "rgb.png"), image.permute(1, 2, 0).numpy())
    assert np.array_equal(read(tmp_path / "grey.png"), image[0].numpy())


def test_a_grid_places_every_pixel_row_by_row(tmp_path: Path):
    images = torch.randint(0, 255, (5, 3, 4, 6), dtype=torch.uint8)
    save_grid(images, tmp_path / "grid.png", columns=3, scale=2)
    sheet = read(tmp_path / "grid.png")
    expected = np.full((2 * 10, 3 * 14, 3), 255, np.uint8)
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy().repeat(2, 1).repeat(2, 2)):
        top, left = i // 3 * 10 + 1, i % 3 * 14 + 1
        expected[top : top + 8, left : left + 12] = image
    assert np.array_equal(sheet, expected)


def test_a_grey_grid_has_three_equal_channels_and_grows_to_64_pixels(tmp_path: Path):
    save_grid(torch.full((1, 1, 16, 16), 9, dtype=torch.uint8), tmp_path / "grid.png", columns=1)
    sheet = read(tmp_path / "grid.png")
    assert sheet.shape == (66, 66, 3)
    assert (sheet[1:65, 1:65] == 9).all()


def test_rows_are_named_at_their_left_and_no_image_is_covered(tmp_path: Path):
    black = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    save_grid(black, tmp_path / "grid.png", columns=2, rows=["real", "generated"])
    sheet = read(tmp_path / "grid.png")
    margin = 6 * len("generated") + 4
    assert sheet.shape == (132, margin + 132, 3)
    for top in (0, 66):
        assert (sheet[top : top + 66, :margin] < 128).any()
        assert (sheet[top + 1 : top + 65, margin + 1 : margin + 65] == 0).all()
    assert (sheet[0] == 255).all()


def test_labels_stand_below_their_images_and_cover_none(tmp_path: Path):
    black = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    save_grid(black, tmp_path / "grid.png", columns=2, labels=["cat", "dog"])
    sheet = read(tmp_path / "grid.png")
    assert sheet.shape == (78, 132, 3)
    assert (sheet[1:65, 1:65] == 0).all()
    assert (sheet[1:65, 67:131] == 0).all()
    for left in (0, 66):
        assert (sheet[65:, left : left + 66] < 128).any()

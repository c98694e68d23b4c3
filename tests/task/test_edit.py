"""task=edit from the command line's words to PNG files, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from composing import composed
from hydra.utils import instantiate
from PIL import Image

from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.task.edit import class_of
from dit_exp.task.sample import sample
from dit_exp.task.train import train

TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "guidance=cfg", "process=flow",
    "objective=v", "sampler.steps=4", "model.width=32", "model.depth=1", "model.heads=4",
    "trainer.max_steps=10", "trainer.batch_size=16", "trainer.warmup_steps=0", "trainer.ema_decay=0",
    "optimizer.lr=1e-2",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, in/picture.png at its size and files that are no pictures."""
    folder = tmp_path_factory.mktemp("edit")
    (folder / "run").mkdir()
    cfg, choices = composed(TINY)
    train(build(cfg, choices, TINY, folder / "run"))
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(array).save(folder / "picture.png")
    Image.fromarray(255 - array).save(folder / "other.png")
    Image.new("L", (5, 7)).save(folder / "small.png")
    Image.new("L", (8, 8)).save(folder / "black.png")
    (folder / "text.png").write_text("no picture")
    return folder


def given(folder: Path, *words: str) -> list[str]:
    """The command line after run.py; AT stands for the folder."""
    placed = [word.replace("AT", str(folder)) for word in words]
    return ["task=edit", f"checkpoint={folder / 'run'}", "tracker=none", *placed]


def edited(folder: Path, out: Path, *words: str) -> list[np.ndarray]:
    """Runs task=edit as build.run does and reads what it wrote."""
    out.mkdir(exist_ok=True)
    cfg, choices = composed(line := given(folder, *words))
    instantiate(cfg.task)(build(cfg, choices, line, out))
    return [np.asarray(Image.open(path)) for path in sorted((out / "edited").iterdir())]


def test_inpainting_keeps_the_known_pixels_of_the_file(folder, tmp_path):
    words = ("edit.image=AT/picture.png", "edit.mask=[2,2,6,6]", "edit.jump_length=2", "edit.jumps=1")
    images = edited(folder, tmp_path / "out", *words, "edit.count=2", "task.label=3")
    source = np.asarray(Image.open(folder / "picture.png"))
    hole = np.zeros((8, 8), bool)
    hole[2:6, 2:6] = True
    assert len(images) == 2
    for image in images:
        assert np.array_equal(image[~hole], source[~hole])
        assert not np.array_equal(image[hole], source[hole])
    strip = Image.open(tmp_path / "out" / "edited.png")
    assert strip.size == (4 * 66, 66)  # the picture, its mask and two versions
    assert (tmp_path / "out" / "config.yaml").exists()


def test_image_to_image_of_strength_0_writes_the_picture(folder, tmp_path):
    words = ("edit=img2img", "edit.image=AT/picture.png", "edit.strength=0", "edit.count=1")
    [image] = edited(folder, tmp_path / "out", *words)
    assert np.array_equal(image, np.asarray(Image.open(folder / "picture.png")))


def test_the_ends_of_an_interpolation_are_the_samples_of_these_numbers(folder, tmp_path):
    line = ["task=sample", f"checkpoint={folder / 'run'}", "tracker=none"]
    cfg, choices = composed(line)
    (tmp_path / "sampled").mkdir()
    sample(build(cfg, choices, line, tmp_path / "sampled"), num_images=13)
    drawn = [np.asarray(Image.open(tmp_path / "sampled" / "samples" / f"{i:06d}.png")) for i in (2, 12)]
    words = ("edit=interpolate", "edit.first=2", "edit.last=12", "task.label=2")  # both are of class 2
    strip = edited(folder, tmp_path / "out", *words)
    assert len(strip) == 8
    for ours, theirs in zip((strip[0], strip[-1]), drawn, strict=True):
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_label_matters_and_may_be_a_name_or_a_number(folder, tmp_path):
    words = ("edit=interpolate", "edit.count=2")
    three = edited(folder, tmp_path / "number", *words, "task.label=3")
    name = edited(folder, tmp_path / "name", *words, "task.label='3'")
    four = edited(folder, tmp_path / "four", *words, "task.label=4")
    assert np.array_equal(three, name)
    assert not np.array_equal(three, four)


def test_the_network_s_parts_still_come_from_the_checkpoint(folder, tmp_path):
    words = ("edit=interpolate", "edit.count=2", "process=vp")
    with pytest.raises(UserError, match=r"process=vp on the command line, flow in the checkpoint"):
        edited(folder, tmp_path / "out", *words)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["edit.image=AT/none.png", "edit.mask=[0,0,2,2]"], r"edit.image=.*none.png is no file"),
        (["edit.image=AT/text.png", "edit.mask=[0,0,2,2]"], r"text.png cannot be read as a picture"),
        (["edit.image=AT/picture.png", "edit.mask=AT/small.png"], r"small.png is 5x7. A mask must have"),
        (["edit.image=AT/picture.png", "edit.mask=AT/black.png"], r"black.png has no white pixel"),
        (["edit.image=AT/picture.png", "edit.mask=[0,0,9,2]"], r"edit.mask=\[0, 0, 9, 2\] must be"),
        (
            ["edit.image=AT/picture.png", "edit.mask=[0,0,2,2]", "sampler=unipc"],
            r"Pass sampler=ddpm, ddim, euler_ancestral or sde",
        ),
        (
            ["edit=interpolate", "task.label=cat"],
            r"task.label=cat: there is no such class. Pass a number from 0",
        ),
        (["edit=interpolate", "task.label=10"], r"task.label=10: there is no such class"),
        (
            ["edit=interpolate_images", "edit.image=AT/picture.png", "edit.other=AT/none.png"],
            r"edit.other=.*none.png is no file",
        ),
        (["edit=interpolate", "run_dir=used"], r"used/edited exists, and two sets of images would mix"),
    ],
)
def test_each_mistake_has_its_sentence_and_writes_nothing(folder, tmp_path, words, text):
    out = tmp_path / "used"
    out.mkdir()
    if "run_dir=used" in words:
        (out / "edited").mkdir()
    before = list(out.iterdir())
    with pytest.raises(UserError, match=text) as refused:
        edited(folder, out, *words)
    assert "\n" not in str(refused.value)
    assert list(out.iterdir()) == before


def test_without_a_checkpoint_there_is_nothing_to_edit_with(tmp_path):
    cfg, choices = composed([*TINY, "task=edit", "edit=interpolate"])
    with pytest.raises(UserError, match=r"task=edit needs a trained model. Pass checkpoint=RUN_DIR"):
        instantiate(cfg.task)(build(cfg, choices, [], tmp_path))


def test_a_model_without_a_null_label_needs_a_class(tmp_path):
    cfg, choices = composed([*TINY, "guidance=none", "model.class_dropout=0"])
    run = build(cfg, choices, [], tmp_path)
    with pytest.raises(UserError, match=r"needs a class. Pass task.label=NAME or a number"):
        class_of(run, None)
    assert class_of(run, 7) == 7


def test_class_names_and_data_without_classes(tmp_path):
    cfg, choices = composed(TINY)
    run = build(cfg, choices, [], tmp_path)
    assert class_of(run, None) == 10  # the null label
    run.data.class_names = ("cat", "dog")
    assert class_of(run, "dog") == 1
    with pytest.raises(UserError, match=r"task.label=dogg: .* one of cat, dog. Did you mean dog\?"):
        class_of(run, "dogg")
    run.data.class_names = ()
    with pytest.raises(UserError, match=r"task.label=dog: data=digits has no classes. Leave it out"):
        class_of(run, "dog")


def test_bf16_and_the_picture_s_own_pixels(folder, tmp_path):
    words = ("edit.image=AT/picture.png", "edit.mask=[0,0,8,2]", "trainer.precision=bf16", "edit.count=1")
    [image] = edited(folder, tmp_path / "out", *words, "edit.jumps=0")
    source = np.asarray(Image.open(folder / "picture.png"))
    assert np.array_equal(image[2:], source[2:])

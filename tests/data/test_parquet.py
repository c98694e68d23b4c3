from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dit_exp.data.celebahq import CelebaHQ
from dit_exp.data.cifar import Cifar
from dit_exp.data.picture import decode
from dit_exp.errors import UserError

Write = Callable[..., Path]


def message(data: Cifar | CelebaHQ, split: str = "train") -> str:
    """What is said of data that cannot be read."""
    with pytest.raises(UserError) as caught:
        data.arrays(split)
    return str(caught.value)


def cifar(tmp_path: Path, root: Path | None = None) -> Cifar:
    return Cifar(root=str(root or tmp_path / "set"), cache=str(tmp_path / "cache"))


def test_a_root_that_is_no_folder(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        cifar(tmp_path, tmp_path / "gone").check()
    assert str(caught.value) == (
        f"data.root={tmp_path}/gone is not a folder. Pass data.root=DIR that holds train-*.parquet, "
        "or use data=digits, which needs no files."
    )


def test_a_root_without_parquet(tmp_path: Path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(UserError) as caught:
        cifar(tmp_path, tmp_path).check()
    assert str(caught.value) == (
        f"data.root={tmp_path} has no train-*.parquet files. Pass data.root=DIR that holds train-*.parquet, "
        "or use data=digits, which needs no files."
    )


def test_a_split_that_is_not_there(write: Write, pictures: np.ndarray, tmp_path: Path):
    write(pictures[:10], range(10))
    assert "has no test-*.parquet files" in message(cifar(tmp_path), "test")


def test_the_hub_is_asked_for_parquet_and_its_copy_is_read(
    write: Write, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(pictures[:10], range(10), "plain_text/train-00000-of-00001.parquet")
    asked = []

    def fetch(repo: str, **options: object) -> str:
        asked.append((repo, options))
        return str(tmp_path / "set")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    data = Cifar(cache=str(tmp_path / "cache"))
    data.check()
    assert data.size("train") == len(data.arrays("train")[0]) == 10
    assert asked == [("uoft-cs/cifar10", {"repo_type": "dataset", "allow_patterns": ["*.parquet"]})]


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to host\nand much more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(UserError) as caught:
        Cifar(cache=str(tmp_path)).check()
    assert str(caught.value) == (
        "data.root is not set, and uoft-cs/cifar10 could not be fetched from the hub (no route to host). "
        "Pass data.root=DIR that holds its parquet files, or use data=digits, which needs no files."
    )


def test_a_file_without_image_column_lists_what_it_has(write: Write, tmp_path: Path):
    path = write([b"x"], [3], column="picture")
    with pytest.raises(UserError) as caught:
        cifar(tmp_path).check()
    assert str(caught.value).startswith(
        f"{path} has no image column: expected img or image, a struct of bytes"
    )
    assert "found picture (struct<bytes: binary, path: string>), label (int64)." in str(caught.value)


@pytest.mark.parametrize("labels", [None, ["cat"]])
def test_a_file_without_integer_labels(write: Write, tmp_path: Path, labels: list[str] | None):
    write([b"x"], labels)
    with pytest.raises(
        UserError, match="has no label column: expected label or fine_label, integers; found img"
    ):
        cifar(tmp_path).check()


def test_a_file_cut_short_is_found_by_check(write: Write, pictures: np.ndarray, tmp_path: Path):
    path = write(pictures[:10], range(10))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet is not a whole parquet file \("):
        cifar(tmp_path).check()


def test_a_file_damaged_inside(write: Write, pictures: np.ndarray, tmp_path: Path):
    path = write(pictures[:10], range(10))
    data = bytearray(path.read_bytes())
    data[4:4000] = bytes(3996)
    path.write_bytes(data)
    assert f"{path} is not a whole parquet file (" in message(cifar(tmp_path))


def test_a_truncated_image_is_named_by_file_and_row(
    write: Write, png: Callable[[np.ndarray], bytes], pictures: np.ndarray, tmp_path: Path
):
    encoded = [png(image) for image in pictures[:10]]
    path = write([*encoded[:7], encoded[7][:200], *encoded[8:]], range(10))
    assert message(cifar(tmp_path)).startswith(f"{path}, row 7: the image cannot be decoded (")
    assert not list((tmp_path / "cache" / "data").iterdir())


@pytest.mark.parametrize("data", [b"", b"not an image", None])
def test_a_row_that_is_no_image(write: Write, pictures: np.ndarray, tmp_path: Path, data: bytes | None):
    path = write([pictures[0], data], [0, 1])
    assert message(cifar(tmp_path)).startswith(f"{path}, row 1: the image cannot be decoded (")


def test_cifar_of_another_size(write: Write, pictures: np.ndarray, tmp_path: Path):
    path = write([pictures[0], pictures[1][:28]], [0, 1])
    assert message(cifar(tmp_path)) == (
        f"{path}, row 1: the image is 32x28, and this data set's are 32x32. "
        "Choose the data= that these files are of."
    )


@pytest.mark.parametrize(("label", "said"), [(10, 10), (-1, -1), (None, -1)])
def test_labels_out_of_range(
    write: Write, pictures: np.ndarray, tmp_path: Path, label: int | None, said: int
):
    path = write(pictures[:3], [0, 9, label])
    assert message(cifar(tmp_path)) == (
        f"{path}, row 2: label {said} is outside 0 to 9. Choose the data= that these files are of."
    )


def test_no_rows(write: Write, tmp_path: Path):
    import pyarrow.parquet as pq

    path = write([b"x"], [1])
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert pq.read_metadata(path).num_rows == 0
    assert message(cifar(tmp_path)) == f"{path} holds no images. Pass data.root=DIR of files that do."


def test_files_are_read_in_order_and_rows_keep_their_labels(
    write: Write, pictures: np.ndarray, tmp_path: Path
):
    labels = [i % 10 for i in range(30)]
    write(pictures[20:], labels[20:], "train-00001-of-00002.parquet")
    write(pictures[:20], labels[:20], "train-00000-of-00002.parquet")
    images, read = cifar(tmp_path).arrays("train")
    assert np.array_equal(images, pictures.transpose(0, 3, 1, 2))
    assert read.tolist() == labels


def test_a_label_column_may_come_first_and_be_called_fine_label(
    write: Write, pictures: np.ndarray, tmp_path: Path
):
    import pyarrow.parquet as pq

    path = write(pictures[:3], [4, 5, 6], column="image", label_column="fine_label")
    pq.write_table(pq.read_table(path).select(["fine_label", "image"]), path)
    images, labels = cifar(tmp_path).arrays("train")
    assert labels.tolist() == [4, 5, 6]
    assert np.array_equal(images, pictures[:3].transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("mode", "value"), [("L", 77), ("RGBA", (10, 200, 30, 255)), ("CMYK", (0, 255, 255, 0))]
)
def test_every_colour_mode_becomes_rgb(mode: str, value: int | tuple[int, ...]):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, (8, 8), value).save(buffer, "tiff")
    image = decode(buffer.getvalue(), "file")
    expected = {"L": (77, 77, 77), "RGBA": (10, 200, 30), "CMYK": (255, 0, 0)}[mode]
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.broadcast_to(np.array(expected), (8, 8, 3)))


@pytest.mark.parametrize(("ending", "order"), [("png", "<u2"), ("tiff", "<u2"), ("tiff", ">u2")])
def test_grey_of_16_bits_is_scaled_and_not_clipped(ending: str, order: str):
    from PIL import Image

    # 257 k is grey level k of 8 bits, and what lies between goes to the nearer one
    levels = np.stack([np.arange(256) * 257, np.minimum(np.arange(256) * 257 + 128, 65535)]).astype(order)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, ending)
    image = np.asarray(decode(buffer.getvalue(), "file"))
    assert image.shape == (2, 256, 3)
    assert np.array_equal(image, np.broadcast_to(np.arange(256)[None, :, None], (2, 256, 3)))


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_grey_of_32_bits_is_refused_since_its_white_is_not_known(kind: type, mode: str):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ones((8, 8), kind)).save(buffer, "tiff")
    with pytest.raises(UserError) as refused:
        decode(buffer.getvalue(), "a.tif")
    assert str(refused.value) == (
        f"a.tif: the image has 32 bits in a channel (Pillow's mode {mode}), and which number is white is not "
        "known. Save it with 8 or 16 bits."
    )

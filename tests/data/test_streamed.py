"""Images that are decoded as they are asked for: which, in what order, how cropped, and what is refused."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dit_exp.data import encoded, streamed
from dit_exp.data.encoded import ClassFolders, Shards
from dit_exp.data.folder import Folder
from dit_exp.data.imagenet import ImageNet
from dit_exp.data.picture import adm_crop
from dit_exp.errors import UserError

Write = Callable[..., Path]


def picture(folder: Path, name: str, value: int | tuple[int, ...] = 0, mode: str = "L", size=(8, 8)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Ten grey images of two classes to train on, image i of grey level 10 i, and two held out."""
    for i in range(10):
        picture(tmp_path / "zoo", f"train/{'cat' if i < 6 else 'dog'}/{i}.png", 10 * i)
    for i, name in enumerate(("cat", "dog")):
        picture(tmp_path / "zoo", f"val/{name}/a.png", 100 + i)
    return tmp_path / "zoo"


def greys(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_class_folders_are_labels_in_the_order_of_their_names(zoo: Path):
    data = Folder(str(zoo), image_size=8)
    data.check()
    assert (data.num_classes, tuple(data.class_names)) == (2, ("cat", "dog"))
    assert data.labels("train").tolist() == [0] * 6 + [1] * 4
    assert greys(torch.cat(list(data.images("train")))) == [10 * i for i in range(10)]
    assert greys(torch.cat(list(data.images("train", 3, 4)))) == [40, 50, 60]
    assert (data.size("validation"), data.labels("validation").tolist()) == (2, [0, 1])
    assert greys(torch.cat(list(data.images("validation")))) == [100, 101]


def test_a_folder_without_splits_or_without_classes(tmp_path: Path):
    picture(tmp_path / "classes", "b/x.png", 1)
    picture(tmp_path / "classes", "a/deep/y.JPEG", 2)
    data = Folder(str(tmp_path / "classes"), image_size=8)
    assert (data.size("train"), tuple(data.class_names)) == (2, ("a", "b"))
    with pytest.raises(UserError, match=r"has no folder validation, so nothing is held out"):
        data.size("validation")
    picture(tmp_path / "flat", "z.png", 3)
    flat = Folder(str(tmp_path / "flat"), image_size=8)
    assert (flat.num_classes, flat.size("train"), flat.labels("train")) == (0, 1, None)
    assert next(flat.train(1, 0).batches()).label is None


def test_an_empty_class_folder_is_named(zoo: Path):
    (zoo / "train" / "cow").mkdir()
    with pytest.raises(UserError, match=r"zoo/train/cow holds no images \(files ending in .*\.png"):
        Folder(str(zoo)).check()


def test_splits_of_other_classes_and_a_root_that_is_gone(zoo: Path):
    picture(zoo, "val/cow/a.png")
    with pytest.raises(UserError, match=r"train and val have other class folders, among them cow"):
        Folder(str(zoo)).size("validation")
    with pytest.raises(UserError, match=r"data\.root=/gone is not a folder"):
        Folder("/gone")


@pytest.mark.parametrize("other", ["validation", "val", "test"])
def test_splits_are_not_taken_for_classes(tmp_path: Path, other: str):
    picture(tmp_path, "training/cat/a.png")
    picture(tmp_path, f"{other}/cat/a.png")
    with pytest.raises(UserError) as refused:
        Folder(str(tmp_path))
    assert str(refused.value) == (
        f"data.root={tmp_path} has a folder {other} and none that is called train, so its splits would be "
        "taken for classes. Call the folder of the images to train on train."
    )
    (tmp_path / "training").rename(tmp_path / "train")
    assert tuple(Folder(str(tmp_path)).class_names) == ("cat",)


def test_a_damaged_file_is_named(zoo: Path):
    path = zoo / "train" / "dog" / "7.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"train/dog/7\.png: the image cannot be decoded \("):
        list(Folder(str(zoo), image_size=8).images("train"))


@pytest.mark.parametrize(
    ("name", "mode", "value", "expected"),
    [
        ("a.png", "L", 77, (77, 77, 77)),
        ("a.png", "LA", (77, 9), (77, 77, 77)),
        ("a.png", "RGBA", (10, 200, 30, 0), (10, 200, 30)),
        ("a.tif", "CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("a.png", "1", 1, (255, 255, 255)),
    ],
)
def test_every_colour_mode_is_converted(tmp_path: Path, name: str, mode: str, value, expected):
    picture(tmp_path, name, value, mode)
    [images] = Folder(str(tmp_path), image_size=4).images("train")
    assert images.shape == (1, 3, 4, 4)
    assert torch.equal(images[0], torch.tensor(expected, dtype=torch.uint8)[:, None, None].expand(3, 4, 4))


def test_the_crop_halves_by_boxes_then_resizes_then_takes_the_centre():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    # 100x70 halves twice by 2x2 means to 25x17, while the short side is at least 2 x 16
    halved = pixels
    for _ in range(2):
        rows, columns = halved.shape[0] // 2, halved.shape[1] // 2
        image = Image.fromarray(halved)
        halved = np.asarray(image.resize((columns, rows), Image.Resampling.BOX))
    assert halved.shape == (17, 25, 3)
    resized = np.asarray(Image.fromarray(halved).resize((24, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(np.asarray(adm_crop(Image.fromarray(pixels), 16)), resized[:, 4:20])


def test_halving_is_the_mean_of_two_by_two_and_a_small_image_grows():
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mean = pixels.reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert (
        np.abs(np.asarray(adm_crop(Image.fromarray(pixels), 16)) - mean).max() <= 1
    )  # rounded in rows, then in columns
    assert adm_crop(Image.fromarray(pixels[:20]), 64).size == (64, 64)


def test_batches_follow_the_seed_and_can_be_taken_up_anywhere(zoo: Path):
    data = Folder(str(zoo), image_size=8)
    whole = list(islice(data.train(4, 7).batches(), 6))
    for ours, theirs in zip(whole[3:], data.train(4, 7).batches(3), strict=False):
        assert torch.equal(ours.image, theirs.image)
        assert torch.equal(ours.label, theirs.label)
    first = [grey for batch in whole[:5] for grey in greys(batch.image)]
    assert sorted(first[:10]) == sorted(first[10:]) == [10 * i for i in range(10)]
    assert all(
        (label == 0) == (grey < 60)
        for b in whole
        for grey, label in zip(greys(b.image), b.label, strict=True)
    )
    shares = [list(islice(data.train(2, 7, rank, 2).batches(), 6)) for rank in (0, 1)]
    for k, batch in enumerate(whole):
        assert torch.equal(batch.image, torch.cat([shares[0][k].image, shares[1][k].image]))


def test_half_of_the_images_are_mirrored(tmp_path: Path):
    array = np.zeros((4, 4), np.uint8)
    array[:, 0] = 200
    Image.fromarray(array).save(tmp_path / "left.png")
    for i in range(199):
        (tmp_path / f"{i}.png").symlink_to(tmp_path / "left.png")
    batch = next(Folder(str(tmp_path), image_size=4).train(200, 0).batches())
    assert 70 < int((batch.image[:, 0, 0, 3] == 200).sum()) < 130
    plain = next(Folder(str(tmp_path), image_size=4, flip=False).train(200, 0).batches())
    assert bool((plain.image[:, 0, 0, 0] == 200).all())


def test_images_that_are_decoded_as_they_are_asked_for_are_not_held_on_a_device(zoo: Path):
    with pytest.raises(UserError, match=r"trainer.resident_data=true .* task=cache"):
        Folder(str(zoo), image_size=8).train(2, 0).on(torch.device("cpu"))


def test_only_the_batches_ahead_are_decoded(zoo: Path, monkeypatch: pytest.MonkeyPatch):
    decoded, lock, decode = [], threading.Lock(), streamed.decode

    def counted(data: bytes, where: str):
        with lock:
            decoded.append(where)
        return decode(data, where)

    monkeypatch.setattr(streamed, "decode", counted)
    batches = Folder(str(zoo), image_size=8).train(2, 0).batches()
    for k in range(1, 20):
        next(batches)
        assert 2 * k <= len(decoded) <= 2 * (k + streamed.AHEAD)
    batches.close()


def shards(write: Write, tmp_path: Path, count: int = 40) -> list[Path]:
    """Parquet in two files of row groups of five; image i is of grey level i and label i."""
    import pyarrow.parquet as pq

    images = [np.full((8, 8, 3), i, np.uint8) for i in range(count)]
    cut = count // 2 + 3
    for name, part in (("0", slice(0, cut)), ("1", slice(cut, count))):
        path = write(images[part], list(range(count))[part], f"train-{name}.parquet", column="image")
        pq.write_table(pq.read_table(path), path, row_group_size=5)
    return sorted((tmp_path / "set").glob("*.parquet"))


def test_imagenet_in_parquet_is_read_by_number_and_shuffled_by_windows(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoded, "WINDOW", 10)
    files = shards(write, tmp_path)
    data = ImageNet(str(tmp_path / "set"), image_size=8, flip=False)
    data.check()
    assert (data.size("train"), data.num_classes) == (40, 1000)
    assert greys(torch.cat(list(data.images("train", 30, 3)))) == list(range(3, 33))
    batches = list(islice(data.train(8, 1).batches(), 10))
    seen = [int(label) for batch in batches for label in batch.label]
    assert seen == [grey for batch in batches for grey in greys(batch.image)]
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))
    assert seen[:40] != seen[40:]
    source = Shards(files, labelled=True)
    order, start = source.order(np.random.default_rng(0)), 0
    group_of = {
        n: g for g, first in enumerate(source.starts[:-1]) for n in range(first, source.starts[g + 1])
    }
    while start < 40:  # a window is the first ten or more that are whole row groups, of three at most
        for end in range(min(start + 10, 40), 41):
            groups = {group_of[number] for number in order[start:end]}
            if sum(source.sizes[group] for group in groups) == end - start:
                break
        assert end - start < 10 + 5
        assert len(groups) <= 3
        assert order[start:end].tolist() != sorted(order[start:end])
        start = end
    assert start == 40


def test_row_groups_are_read_once_an_epoch_and_few_are_kept(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoded, "WINDOW", 10)
    reads, read = [], encoded.parquet.encoded
    monkeypatch.setattr(encoded.parquet, "encoded", lambda *at: reads.append(at) or read(*at))
    source = Shards(shards(write, tmp_path), labelled=True)
    for number in source.order(np.random.default_rng(0)):
        source.read(int(number))
        assert sum(source.sizes[group] for group in source._kept) <= 20
    assert len(reads) == len(set(reads)) == len(source.groups) == 9


def test_rows_are_named_by_file_and_number(write: Write, tmp_path: Path):
    files = shards(write, tmp_path)
    source = Shards(files, labelled=True)
    assert source.read(22)[1] == f"{files[0]}, row 22"
    assert source.read(23)[1] == f"{files[1]}, row 0"
    assert source.read(39)[1] == f"{files[1]}, row 16"


def test_a_shard_cut_short_and_a_label_out_of_range(write: Write, tmp_path: Path):
    files = shards(write, tmp_path)
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"train-1\.parquet is not a whole parquet file"):
        ImageNet(str(tmp_path / "set")).check()
    files[1].unlink()
    write([np.zeros((8, 8, 3), np.uint8)], [1000], "train-1.parquet", column="image")
    with pytest.raises(UserError, match=r"has the label 1000, outside 0 to 999"):
        ImageNet(str(tmp_path / "set")).check()


def test_labels_that_are_damaged_are_named(write: Write, tmp_path: Path):
    import pyarrow.parquet as pq

    path = shards(write, tmp_path)[1]
    start = pq.read_metadata(path).row_group(0).column(2).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-1\.parquet is not a whole parquet file \("):
        ImageNet(str(tmp_path / "set")).check()


def test_imagenet_in_folders_has_a_thousand(tmp_path: Path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "JPEG")
    for i in range(1000):
        folder = tmp_path / "train" / f"n{i:08d}"
        folder.mkdir(parents=True)
        (folder / "a.JPEG").write_bytes(buffer.getvalue())
    data = ImageNet(str(tmp_path), image_size=512)
    assert data.image_shape == (3, 512, 512)
    assert data.labels("train").tolist() == list(range(1000))
    assert next(data.images("train", 1)).shape == (1, 3, 512, 512)
    (tmp_path / "train" / "n00000999" / "a.JPEG").unlink()
    (tmp_path / "train" / "n00000999").rmdir()
    with pytest.raises(UserError, match=r"has 999 class folders, and ImageNet has 1000\. Use data=folder"):
        ImageNet(str(tmp_path)).check()


def test_an_identity_follows_files_sizes_and_the_transform(zoo: Path):
    def of(size: int = 8) -> str:
        return Folder(str(zoo), image_size=size).identity("train")

    before = of()
    assert before == of() != of(16)
    picture(zoo, "train/dog/9.png", 1, size=(400, 400))
    assert of() != before
    assert ClassFolders(zoo / "train").facts.count("\n") == 9

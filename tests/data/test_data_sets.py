from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import composed
from omegaconf import OmegaConf

from dit_exp.data import arrays, parquet
from dit_exp.data.celebahq import CelebaHQ
from dit_exp.data.cifar import Cifar
from dit_exp.data.cifar_unlabelled import CifarUnlabelled
from dit_exp.data.digits import Digits
from dit_exp.data.picture import centre_square
from dit_exp.errors import UserError

Write = Callable[..., Path]


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(arrays, "decode", fail)


@pytest.mark.parametrize("source", [Cifar, CelebaHQ, Digits])
def test_a_yaml_holds_the_constructors_keywords_and_defaults(source: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DIT_EXP_CACHE", raising=False)
    name = source.__module__.rpartition(".")[2]
    choice = OmegaConf.to_container(composed([f"data={name}"])[0].data, resolve=True)
    assert isinstance(choice, dict)
    assert choice.pop("_target_") == f"{source.__module__}.{source.__name__}"
    assert choice == {key: p.default for key, p in inspect.signature(source).parameters.items()}


def test_a_second_object_reads_the_cache_and_decodes_nothing(
    write: Write, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(pictures, [1] * 30)
    root, cache = str(path.parent), str(tmp_path / "cache")
    first = Cifar(root, cache=cache).arrays("train")[0]
    forbid_decoding(monkeypatch)
    assert np.array_equal(Cifar(root, cache=cache).arrays("train")[0], first)
    assert np.array_equal(Cifar(root, flip=False, cache=cache).arrays("train")[0], first)
    with pytest.raises(AssertionError, match="decoded"):
        Cifar(root, image_size=16, cache=cache).arrays("train")
    with pytest.raises(AssertionError, match="decoded"):
        CelebaHQ(root, image_size=32, cache=cache).arrays("train")


def test_a_changed_file_is_decoded_anew(write: Write, pictures: np.ndarray, tmp_path: Path):
    path = write(pictures[:10], range(10))
    root, cache = str(path.parent), str(tmp_path / "cache")
    before = Cifar(root, cache=cache)
    identity = before.identity("train")
    before.arrays("train")
    write(pictures[10:20], range(10))
    after = Cifar(root, cache=cache)
    assert after.identity("train") != identity
    assert np.array_equal(after.arrays("train")[0], pictures[10:20].transpose(0, 3, 1, 2))


def test_check_size_and_identity_decode_nothing(
    write: Write, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    forbid_decoding(monkeypatch)
    data = Cifar(str(write(pictures, [0] * 30).parent), cache=str(tmp_path / "cache"))
    data.check()
    assert data.size("train") == 30
    assert len(data.identity("train")) == 16


def test_images_come_in_a_fixed_order_unflipped_in_pieces_of_500():
    data = Digits(image_size=8, flip=True)
    pieces = list(data.images("train", 1200))
    assert [len(piece) for piece in pieces] == [500, 500, 200]
    assert pieces[0].dtype == torch.uint8
    assert torch.equal(torch.cat(pieces), torch.from_numpy(data.arrays("train")[0][:1200]))
    assert sum(map(len, data.images("test"))) == 297
    assert sum(map(len, data.images("test", 0))) == 0


@pytest.mark.parametrize("source", [Cifar, CelebaHQ, Digits])
def test_no_size_below_one(source: type):
    with pytest.raises(UserError, match=r"data\.image_size=0 must be at least 1\."):
        source(image_size=0)


def test_digits_are_scikit_learns_at_their_own_size():
    from sklearn.datasets import load_digits

    data = Digits(image_size=8)
    images = np.concatenate([data.arrays(split)[0] for split in ("train", "test")])
    labels = np.concatenate([data.arrays(split)[1] for split in ("train", "test")])
    assert (data.size("train"), data.size("test"), images.min(), images.max()) == (1500, 297, 0, 255)
    assert np.array_equal(images[:, 0], images[:, 1])
    assert np.array_equal(images[:, 0], images[:, 2])
    scans, classes = load_digits(return_X_y=True)
    own = sorted(
        (round(label), *np.rint(scan * 255 / 16).astype(int))
        for scan, label in zip(scans, classes, strict=True)
    )
    assert own == sorted(
        (int(label), *map(int, image[0].ravel())) for image, label in zip(images, labels, strict=True)
    )


def test_digits_are_split_the_same_way_each_time_and_show_every_class():
    first, again = Digits(), Digits()
    first.check()
    assert first.image_shape == tuple(first.arrays("train")[0].shape[1:]) == (3, 16, 16)
    for split in ("train", "test"):
        assert np.array_equal(first.arrays(split)[0], again.arrays(split)[0])
        assert set(first.arrays(split)[1].tolist()) == set(range(10))
    identities = {first.identity("train"), first.identity("test"), Digits(8).identity("train")}
    assert len(identities | {again.identity("train")}) == 3


def test_digits_have_no_other_split():
    with pytest.raises(UserError) as caught:
        Digits().size("validation")
    assert str(caught.value) == "data=digits has no split 'validation'. Choose one of train, test."


def test_a_crop_takes_the_centre():
    from PIL import Image

    array = np.arange(9 * 5, dtype=np.uint8).reshape(9, 5)
    assert np.array_equal(np.asarray(centre_square(Image.fromarray(array))), array[2:7])
    assert np.array_equal(np.asarray(centre_square(Image.fromarray(array.T.copy()))), array[2:7].T)


def test_cifar_at_another_size_is_bicubic_with_antialiasing(
    write: Write, pictures: np.ndarray, tmp_path: Path
):
    smooth = torch.nn.functional.avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2).float(), 5, 1, 2)
    smooth = smooth.round().to(torch.uint8)
    root = write(list(smooth.permute(0, 2, 3, 1).contiguous().numpy()), [0] * 30).parent
    data = Cifar(str(root), image_size=16, cache=str(tmp_path / "cache"))
    ours = torch.cat(list(data.images("train"))).float()
    theirs = torch.nn.functional.interpolate(smooth.float(), (16, 16), mode="bicubic", antialias=True)
    assert data.image_shape == (3, 16, 16)
    assert (ours - theirs).abs().max() <= 1


def test_celebahq_crops_and_resizes_and_leaves_labels_alone(write: Write, tmp_path: Path):
    from PIL import Image

    face = np.random.default_rng(0).integers(0, 256, (109, 89, 3), dtype=np.uint8)
    root = write([face] * 3, [7, 8, 99], column="image").parent
    data = CelebaHQ(str(root), image_size=64, cache=str(tmp_path / "cache"))
    expected = Image.fromarray(face[10:99]).resize((64, 64), Image.Resampling.BICUBIC)
    (images,) = data.images("train")
    assert torch.equal(images[2].permute(1, 2, 0), torch.from_numpy(np.array(expected)))
    assert (data.num_classes, tuple(data.class_names)) == (0, ())
    assert next(data.train(2, 0).batches()).label is None


def test_real_cifar_has_5000_a_class_in_training(cifar10: str, tmp_path: Path):
    data = Cifar(cifar10, cache=str(tmp_path))
    assert (data.size("train"), data.size("test")) == (50_000, 10_000)
    (path,) = parquet.find(Path(cifar10), "train")
    labels = np.array([label for _, _, label in parquet.rows(path, labelled=True)])
    assert np.bincount(labels).tolist() == [5000] * 10


def test_real_cifar_test_images_look_like_their_classes(cifar10: str, tmp_path: Path):
    data = Cifar(cifar10, cache=str(tmp_path))
    images, labels = data.arrays("test")
    assert images.shape == (10_000, *data.image_shape)
    assert np.bincount(labels).tolist() == [1000] * 10
    colour = {name: images[labels == i].mean((0, 2, 3)) for i, name in enumerate(data.class_names)}
    blueness = {name: blue - red for name, (red, _, blue) in colour.items()}
    assert set(sorted(blueness, key=blueness.__getitem__)[-2:]) == {"airplane", "ship"}
    # the published means are 0.491, 0.482, 0.447 of white
    assert images.mean((0, 2, 3)) / 255 == pytest.approx([0.491, 0.482, 0.447], abs=0.01)


def test_real_faces_are_centred(celeba: Path, write: Write, tmp_path: Path):
    rows = parquet.rows(sorted(celeba.glob("validation-*.parquet"))[0], labelled=False)
    encoded = [data for (_, data, _), _ in zip(rows, range(100), strict=False)]
    root = write(encoded, column="image", name="validation-00000-of-00001.parquet").parent
    data = CelebaHQ(str(root), image_size=64, cache=str(tmp_path / "cache"))
    images = torch.cat(list(data.images("validation"))).float()
    assert images.shape == (100, 3, 64, 64)
    mean = images.mean((0, 1))
    assert (mean - mean.flip(-1)).abs().mean() < 10  # the mean face is symmetric
    skin = images.mean(0)[:, 24:40, 24:40].mean((1, 2))
    assert skin[0] > skin[1] > skin[2]


def test_cifar_without_its_classes_has_the_same_images_and_no_labels(
    write: Write, pictures: np.ndarray, tmp_path: Path
):
    root, cache = str(write(pictures, [3] * 30).parent), str(tmp_path / "cache")
    labelled, plain = Cifar(root, cache=cache), CifarUnlabelled(root, cache=cache)
    assert np.array_equal(plain.arrays("train")[0], labelled.arrays("train")[0])
    assert (plain.num_classes, len(plain.class_names), plain.labels("train")) == (0, 0, None)
    batch = next(plain.train(8, seed=0).batches())
    assert batch.label is None
    assert torch.equal(batch.image, next(labelled.train(8, seed=0).batches()).image)

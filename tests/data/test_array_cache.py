from __future__ import annotations

import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dit_exp.data import cache
from dit_exp.errors import UserError


def build(value: int):
    def write(place: Path) -> None:
        np.save(place / "images.npy", np.full((2, 3, 1, 1), value, np.uint8))
        np.save(place / "labels.npy", np.zeros(2, np.int64))

    return write


def test_arrays_are_built_once_and_then_mapped(tmp_path: Path):
    first, _ = cache.arrays(tmp_path, "key", build(1))
    again, _ = cache.arrays(tmp_path, "key", build(2))
    assert isinstance(again, np.memmap)
    assert first.max() == again.max() == 1
    assert cache.arrays(tmp_path, "other", build(2))[0].max() == 2


def test_two_that_build_at_once_both_read_one_whole_array_and_leave_nothing_else(tmp_path: Path):
    both_are_building = threading.Barrier(2, timeout=30)

    def write(place: Path) -> None:
        both_are_building.wait()
        build(7)(place)
        both_are_building.wait()

    with ThreadPoolExecutor(2) as pool:
        for images, labels in pool.map(lambda _: cache.arrays(tmp_path, "key", write), range(2)):
            assert images.shape == (2, 3, 1, 1)
            assert images.min() == 7
            assert len(labels) == 2
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["key"]


def test_a_build_that_fails_half_way_is_not_read_later(tmp_path: Path):
    def fail(place: Path) -> None:
        np.save(place / "images.npy", np.zeros((2, 3, 1, 1), np.uint8))
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        cache.arrays(tmp_path, "key", fail)
    assert list((tmp_path / "data").iterdir()) == []
    assert cache.arrays(tmp_path, "key", build(3))[0].max() == 3


def test_the_hash_follows_bytes_order_and_transform_but_not_names_or_times(tmp_path: Path):
    a, b, copy = tmp_path / "a", tmp_path / "b", tmp_path / "copy"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    copy.write_bytes(b"one")

    def of(*files: Path, transform: str = "t") -> str:
        return cache.content_hash(list(files), transform, tmp_path)

    assert of(a, b) == of(copy, b)
    assert len({of(a, b), of(b, a), of(a), of(a, b, transform="u")}) == 4
    before = of(a)
    a.write_bytes(b"another")
    assert of(a) != before


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        cache.folder(str(tmp_path / "file" / "cache"))
    assert str(caught.value) == (
        f"data.cache={tmp_path}/file/cache cannot be written (Not a directory). "
        "Pass data.cache=DIR or set DIT_EXP_CACHE."
    )


def test_the_cache_folder_is_made_and_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder("~/deep/cache") == tmp_path / "deep" / "cache"
    assert (tmp_path / "deep" / "cache").is_dir()


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 10**9))
    cache.require_space(Path("/cache/data/key"), 10**9)
    with pytest.raises(
        UserError, match=r"take 1\.50 GB, and /cache/data has 1\.00 GB left\. Pass data\.cache"
    ):
        cache.require_space(Path("/cache/data/key"), 15 * 10**8)

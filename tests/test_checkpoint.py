"""Checkpoints: atomic, verified, harmless, and clear about what is wrong with them."""

from __future__ import annotations

import errno
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from dit_exp import checkpoint
from dit_exp.checkpoint import DamagedError
from dit_exp.errors import UserError


def state(step: int) -> dict:
    return {"config": {}, "choices": {}, "step": step, "model": {"w": torch.full((4,), float(step))}}


def write(run_dir: Path, *steps: int, keep: int = 10) -> None:
    for step in steps:
        checkpoint.save(state(step), checkpoint.path_of(run_dir, step), keep)


def test_the_newest_is_the_one_with_the_largest_number(tmp_path: Path):
    write(tmp_path, 999, 1000, 20)
    # A name with fewer digits is later in the alphabet, and a file's time says nothing.
    (path := checkpoint.path_of(tmp_path, 999)).rename(path.with_name("step_999.pt"))
    path.with_suffix(".sha256").rename(path.with_name("step_999.sha256"))
    assert checkpoint.newest(tmp_path)[1]["step"] == 1000


def test_only_the_newest_are_kept(tmp_path: Path):
    write(tmp_path, 1, 2, 3, 4, keep=2)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step_0000000{i}.{kind}" for i in (3, 4) for kind in ("pt", "sha256")]


def test_sha256sum_confirms_what_was_written(tmp_path: Path):
    write(tmp_path, 5)
    folder = tmp_path / "checkpoints"
    done = subprocess.run(
        ["sha256sum", "-c", "step_00000005.sha256"], cwd=folder, capture_output=True, text=True
    )
    assert done.stdout == "step_00000005.pt: OK\n"


@pytest.mark.parametrize("damage", ["one byte", "cut short", "no digest", "empty digest"])
def test_a_damaged_newest_is_reported_and_the_one_before_is_used(tmp_path: Path, damage: str, caplog):
    write(tmp_path, 1, 2)
    path = checkpoint.path_of(tmp_path, 2)
    data = bytearray(path.read_bytes())
    if damage == "one byte":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty digest":
        path.with_suffix(".sha256").write_text("")
    else:
        path.with_suffix(".sha256").unlink()
    assert checkpoint.newest(tmp_path)[1]["step"] == 1
    assert f"{path}" in caplog.text
    assert "The checkpoint before it is used." in caplog.text


def test_where_none_is_whole_it_is_said(tmp_path: Path):
    write(tmp_path, 1, 2)
    for step in (1, 2):
        checkpoint.path_of(tmp_path, step).write_bytes(b"")
    with pytest.raises(UserError, match="None of the 2 checkpoints in"):
        checkpoint.newest(tmp_path)


class Disk:
    """A file on a disk with room for `room` bytes."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data) -> int:
        self.room -= len(bytes(data))
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 100, 900])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_rest(tmp_path: Path, monkeypatch, room: int):
    write(tmp_path, 1)
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *a, **k: (
            Disk(real(self, mode, *a, **k), room) if mode == "wb" else real(self, mode, *a, **k)
        ),
    )
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step_00000001.pt",
        "step_00000001.sha256",
    ]
    assert checkpoint.newest(tmp_path)[1]["step"] == 1


def test_a_foreign_file_runs_no_code(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "foreign.pt").write_bytes(pickle.dumps(Trap()))
    torch.save(Trap(), tmp_path / "foreign.zip.pt")
    for name in ("foreign.pt", "foreign.zip.pt"):
        with pytest.raises(DamagedError, match=rf"{name} is not a checkpoint of this program.*No code of it"):
            checkpoint.find(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_program_are_no_checkpoint(tmp_path: Path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(DamagedError, match="holds no config, model and step"):
        checkpoint.find(str(tmp_path / "weights.pt"))


def test_a_run_directory_or_a_file_is_found(tmp_path: Path):
    write(tmp_path, 1, 2)
    assert checkpoint.find(str(tmp_path))[1]["step"] == 2
    assert checkpoint.find(str(checkpoint.path_of(tmp_path, 1)))[1]["step"] == 1
    with pytest.raises(UserError, match=r"checkpoint=.*nowhere does not exist. Pass a run directory"):
        checkpoint.find(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no whole checkpoint in its checkpoints/ folder"):
        checkpoint.find(str(tmp_path / "empty"))


def test_another_architecture_is_told_by_its_keys(tmp_path: Path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
    weights = {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(4), "2.weight": torch.zeros(1)}
    with pytest.raises(UserError) as refused:
        checkpoint.load_weights(model, weights, tmp_path / "a.pt")
    assert str(refused.value).splitlines() == [
        f"{tmp_path}/a.pt is of another architecture; 3 keys differ:",
        "  0.bias: (4,) in the file, (3,) in the model",
        "  only in the file: 2.weight",
        "  only in the model: 1.weight",
    ]

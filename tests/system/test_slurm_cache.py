"""A cache of latents encoded by two processes of a Slurm job is, byte for byte, that of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_sweeps import SLURM, sweep_of
from test_two_stages import STAGE, ran

from dit_exp.data import header

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def test_two_nodes_encode_what_one_process_does(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    stage = tmp_path / "stage1"
    ran(*STAGE, "autoencoder=vq", "autoencoder.codebook_size=32", f"run_dir={stage}")
    program, *_ = STAGE
    words = [
        "task=cache", "data=digits", "data.image_size=16", f"autoencoder.checkpoint={stage}",
        "task.shard=100", "tracker=none", "device=cpu",
    ]  # fmt: skip
    ran(program, *words, f"cache.path={tmp_path / 'one'}", cwd=tmp_path)
    two = ["hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1", "run_dir=s"]
    ran(program, "-m", *words, f"cache.path={tmp_path / 'two'}", *SLURM, *two, cwd=tmp_path)

    assert [cell.status.state for cell in sweep_of(tmp_path / "s")] == ["finished"]
    [place] = {path.parent for path in (tmp_path / "s" / "jobs").rglob("*_log.out")}
    assert len([*place.glob("*_log.out")]) == 2  # one for each process
    one, other = (
        {path.relative_to(tmp_path / name): path for path in (tmp_path / name).rglob("*.npy")}
        for name in ("one", "two")
    )
    assert header.shard_path(tmp_path / "two", "train", 2).exists()  # more shards than processes
    assert one.keys() == other.keys()
    for name, path in one.items():
        assert path.read_bytes() == other[name].read_bytes(), name
    assert (tmp_path / "one/header.json").read_text() == (tmp_path / "two/header.json").read_text()

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import INSTALL, Cluster, missing

LONGEST = ("test_slurm_many.py", "test_slurm_requeue.py", "test_slurm.py", "test_benchmarks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that none of them runs alone at the end."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture
def slurm(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, which a test that fails leaves empty for the next one."""
    yield cluster
    cluster.clear()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of a real Slurm. Its folder lies high up, since a socket's path has a limit."""
    if os.geteuid() != 0:
        pytest.skip("a cluster of its own is started by root")
    if missing():
        pytest.skip(f"{', '.join(missing())}: not installed. {INSTALL}")
    own = tmp_path_factory.getbasetemp()
    folder = Path("/tmp") / f"dit_exp_slurm_{own.parent.name}_{own.name}"  # of this session and this worker
    shutil.rmtree(folder, ignore_errors=True)
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)

"""What all tests share: a cache of their own and the real data, where it is beside the project."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT / "../shared/data"
os.environ["DIT_EXP_HOME"] = str(PROJECT)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: no collection of garbage needs to walk them."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """At the end they are garbage like all else, or libraries that count what they made report leaks."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for the whole session, never the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIT_EXP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def cifar10() -> str:
    folder = SHARED / "cifar10"
    if not folder.is_dir():
        pytest.skip("no shared/data/cifar10 beside the repository")
    return str(folder)


@pytest.fixture(scope="session")
def celeba() -> Path:
    folder = SHARED / "celeba"
    if not folder.is_dir():
        pytest.skip("no shared/data/celeba beside the repository")
    return folder

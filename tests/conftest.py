"""What all tests share: a cache of their own and the real data, where it is beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT / "../shared/data"
os.environ["DIT_EXP_HOME"] = str(PROJECT)


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for the whole session, never the user's."""
    monkeypatch.setenv("DIT_EXP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


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

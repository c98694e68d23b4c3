from __future__ import annotations

import pytest
from PIL import Image

from dit_exp.tracker.mlflow import MlflowTracker


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """One SQLite store for all tests, since its tables take a second to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(database):
    from mlflow import MlflowClient

    return MlflowClient(database)


@pytest.fixture
def tracker(database):
    """A new tracker, as each start of the program builds one."""

    def build(uri=database, patience=20):
        return MlflowTracker(uri=uri, experiment="tests", patience=patience)

    return build


@pytest.fixture
def picture(tmp_path):
    def draw(red):
        Image.new("RGB", (32, 16), (red, 0, 0)).save(tmp_path / "samples.png")
        return tmp_path / "samples.png"

    return draw

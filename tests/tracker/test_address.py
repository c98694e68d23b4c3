from __future__ import annotations

from pathlib import Path

import pytest

from dit_exp.tracker.address import bare


@pytest.mark.parametrize(
    ("uri", "expected"),
    {
        "http://127.0.0.1:5000/": "http://127.0.0.1:5000",
        "https://ada:secret@host/mlflow/": "https://host/mlflow",
        "http://ada:sec@ret@host:5000": "http://host:5000",
        "postgresql+psycopg://ada:sec/ret@host:5432/db": "postgresql+psycopg://host:5432/db",
        "postgresql://ada:sec?ret@host/db": "postgresql://host/db",
        "postgresql://host/db?user=ada&password=secret": "postgresql://host/db",
        "sqlite:////runs/mlflow.db?timeout=5": "sqlite:////runs/mlflow.db",
        "sqlite:///mlflow.db": f"sqlite:///{Path.cwd()}/mlflow.db",
    }.items(),
)
def test_a_store_is_told_by_its_place_and_nothing_secret(uri: str, expected: str):
    assert bare(uri) == expected
    assert bare(expected) == expected

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf/tracker"


@pytest.mark.parametrize(
    ("variable", "uri"),
    [(None, "sqlite:////home/ada/dit/mlflow.db"), ("http://127.0.0.1:5000", "http://127.0.0.1:5000")],
)
def test_the_address_is_the_environments_or_a_file_of_the_project(monkeypatch, variable, uri):
    monkeypatch.setenv("DIT_EXP_HOME", "/home/ada/dit")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert OmegaConf.load(CONF / "mlflow.yaml").uri == uri

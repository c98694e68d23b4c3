from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dit_exp.learning import Tracker
from dit_exp.tracker.none import NoTracker

ROOT = Path(__file__).parents[2]


def test_it_writes_nothing(tmp_path):
    run = NoTracker()
    assert isinstance(run, Tracker)
    run.start(tmp_path, {"seed": 0}, {}, "none")
    run.log({"loss": 1.0}, 0)
    run.image("samples", tmp_path / "missing.png", 0)
    run.artifact(tmp_path / "missing.yaml")
    run.finish()
    assert list(tmp_path.iterdir()) == []


def test_no_tracker_imports_mlflow_before_it_starts():
    program = """
import sys
from dit_exp.tracker.none import NoTracker
from dit_exp.tracker.mlflow import MlflowTracker
from pathlib import Path
run = NoTracker()
run.start(Path("."), {}, {}, "none")
run.finish()
MlflowTracker("sqlite:///mlflow.db", "dit_exp")
print([name for name in ("mlflow", "torch", "PIL", "sqlalchemy") if name in sys.modules])
"""
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"

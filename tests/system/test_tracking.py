"""What a sweep leaves in MLflow: a run a cell, its parameters, curves, pictures and where the code stood."""

from __future__ import annotations

from pathlib import Path

import program
import pytest

PROJECT = Path(__file__).parents[2]
TINY = [
    "data=digits", "data.image_size=8", "sampler.steps=2", "model.width=32", "model.depth=1", "model.heads=4",
    "trainer.batch_size=16", "trainer.log_every=1", "trainer.checkpoint_every=2",
    "metrics=quick", "metrics.num_samples=20", "metrics.reference_samples=20",
]  # fmt: skip

pytestmark = pytest.mark.system


def run(*words: str) -> None:
    done = program.run(*words, *TINY, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


def test_a_sweep_and_its_continuation(tmp_path: Path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    where = [f"tracker.uri={uri}", f"run_dir={tmp_path}/sweep"]
    run("-m", "cond=adaln,token", "trainer.max_steps=3", *where)
    client = MlflowClient(uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "dit_exp"]

    def cells():
        found = client.search_runs([experiment.experiment_id])
        return {r.data.params["cond"]: r for r in found if "cell" in r.data.tags}

    runs = cells()
    assert runs.keys() == {"adaln", "token"}
    for cell in runs.values():
        assert cell.info.status == "FINISHED"
        assert cell.data.params["attn"] == "mha"
        assert cell.data.params["model.width"] == "32"
        assert cell.data.tags["git_commit"]
        assert cell.data.tags["git_dirty"] in ("True", "False", "unknown")
        assert cell.data.metrics.keys() >= {
            "loss", "learning_rate", "gradient_norm", "images_per_second", "fd_efficientnet_lite0_20", "gmac",
        }  # fmt: skip
        steps = [m.step for m in client.get_metric_history(cell.info.run_id, "loss")]
        assert steps == [1, 2, 3]
        files = {f.path for f in client.list_artifacts(cell.info.run_id)}
        assert files >= {"config.yaml", "metrics.json", "loss.png", "progress.png", "images"}

    # Both ran in one process, whose peak on a CPU is known of its first training alone.
    assert [cell for cell, run in runs.items() if "memory_gib" in run.data.metrics] == ["adaln"]

    run("-m", "cond=adaln,token", "trainer.max_steps=5", *where)
    again = cells()
    assert {c: r.info.run_id for c, r in again.items()} == {c: r.info.run_id for c, r in runs.items()}
    steps = [m.step for m in client.get_metric_history(again["token"].info.run_id, "loss")]
    assert steps == [1, 2, 3, 4, 5]

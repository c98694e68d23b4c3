"""task=scaling reads a sweep's directory, or its MLflow run, and says one sentence for what it cannot use."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import pytest
import synthetic

from dit_exp.errors import UserError
from dit_exp.sweep.folder import Cell, Sweep, read
from dit_exp.sweep.parent import parent_run
from dit_exp.task.parts import Setting
from dit_exp.task.scaled import runs_of
from dit_exp.task.scaling import scaling
from dit_exp.tracker.mlflow import MlflowTracker
from dit_exp.tracker.none import NoTracker

BUDGETS = (1e13, 1e14, 1e15, 1e16)


def setting(folder: Path, tracker=None) -> Setting:
    config = {"tracker": {"uri": tracker.uri} if tracker else {}}
    return Setting(config, {"task": "scaling"}, [], folder, tracker or NoTracker())


def test_what_the_cells_have_left_is_read_back(tmp_path: Path):
    runs = synthetic.grid(BUDGETS[:2])
    runs[0] = synthetic.run(
        0, 32, 6400, curve=((64, 0.9), (6400, 0.5)), scores={"fid": 3.0}, protocol={"n": 9}
    )
    synthetic.write_sweep(tmp_path, runs)
    assert runs_of(read(tmp_path)) == runs


def test_the_run_directory_and_the_sweep_get_the_fit_and_what_to_run_next(tmp_path: Path, caplog):
    sweep = synthetic.write_sweep(tmp_path / "sweep", synthetic.grid(BUDGETS, noise=0.002))
    with caplog.at_level(logging.INFO):
        scaling(setting(tmp_path / "out"), str(sweep.folder), resamples=50, budget=1e17)
    numbers = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert numbers["law"]["b"]["value"] == pytest.approx(synthetic.LOSS_EXPONENT, rel=0.3)
    assert numbers["budget"]["compute"] == 1e17
    name = Path(numbers["next"]).stem
    assert name.startswith("scaling_next_1e17_")
    assert Path(numbers["next"]) == tmp_path / "sweep" / "next" / "sweep" / f"{name}.yaml"
    assert Path(numbers["next"]).exists()
    assert (tmp_path / "out" / "scaling.png").stat().st_size > 20_000
    said = caplog.text
    assert "from 4 of 20 points, 95 % intervals in brackets" in said
    assert "The intervals are too narrow: 4 budgets are few" in said
    assert "Leave-one-out error: " in said
    assert "1e+14 FLOP: " in said
    assert "1e+17 FLOP want " in said
    assert f"python run.py 'hydra.searchpath=[file://{tmp_path}/sweep/next]' +sweep={name}" in said


def test_correlations_are_printed_beside_the_papers(tmp_path: Path, caplog):
    runs = [
        synthetic.run(i, 32 * 2**i, 64e4, scores={"fid": fid}, protocol={"n": 50_000})
        for i, fid in enumerate((90.0, 40.0, 50.0, 20.0))
    ]
    synthetic.write_sweep(tmp_path / "sweep", runs)
    with caplog.at_level(logging.INFO):
        scaling(setting(tmp_path / "out"), str(tmp_path / "sweep"), resamples=50)
    # Around their means the logarithms are -3, -1, 1, 3 and the scores 40, -10, 0, -30: -200 / sqrt(20 2600).
    assert "Correlation of log GMAC and fid: -0.88, 4 runs of 640000 images (DiT reports -0.93" in caplog.text


@pytest.mark.system
def test_an_mlflow_run_serves_where_the_directory_is_not_here(tmp_path: Path):
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "test")
    runs = synthetic.grid(BUDGETS)
    sweep = synthetic.write_sweep(tmp_path / "sweep", runs)
    with parent_run(tracker, sweep):
        pass
    parent = json.loads((sweep.folder / "tracker" / "sent.json").read_text())["run_id"]
    for cell in sweep.cells:
        child = MlflowTracker(tracker.uri, "test")
        tags = {"mlflow.parentRunId": parent, "cell": str(cell.number), "run_dir": str(cell.folder)}
        child.start(cell.folder, {}, tags, str(cell.number))
        for name in ("config.yaml", "metrics.json", "curve.jsonl"):
            child.artifact(cell.folder / name)
        child.finish()
    here, there = tmp_path / "here", tmp_path / "there"
    scaling(setting(here, MlflowTracker(tracker.uri, "test")), parent, resamples=50)
    shutil.rmtree(sweep.folder)
    scaling(setting(there, MlflowTracker(tracker.uri, "test")), parent, resamples=50)
    one, other = (json.loads((folder / "scaling.json").read_text()) for folder in (here, there))
    assert one["points"] == other["points"]
    assert one["law"] == other["law"]
    from mlflow import MlflowClient

    client = MlflowClient(tracker.uri)
    assert client.get_run(parent).data.metrics["scaling_b"] == pytest.approx(one["law"]["b"]["value"])
    names = {entry.path for entry in client.list_artifacts(parent)}
    assert names >= {"sweep.json", "scaling.json", "scaling.png", Path(one["next"]).name}


def test_a_sweep_without_validation_losses_is_told_what_to_train_with(tmp_path: Path):
    sweep = synthetic.write_sweep(tmp_path, synthetic.grid(BUDGETS[:1]))
    for cell in sweep.cells:
        (cell.folder / "metrics.json").write_text(json.dumps({"validation_loss": None, "gmac": 1.0}))
    with pytest.raises(
        UserError, match=r"No run of the sweep .* \(5 of 5 have ended\).*task.validation_images=N"
    ):
        scaling(setting(tmp_path / "out"), str(tmp_path))


def joined(folder: Path, *sweeps: Sweep) -> Path:
    """One sweep of the cells of several."""
    cells = [cell for sweep in sweeps for cell in sweep.cells]
    for number, cell in enumerate(cells):
        shutil.copytree(cell.folder, folder / str(number))
        cells[number] = Cell(number, cell.overrides, folder / str(number))
    Sweep(folder, "scaling", ["python", "run.py"], cells).write()
    return folder


def test_losses_of_several_objectives_are_refused_with_what_differs(tmp_path: Path):
    runs = synthetic.grid(BUDGETS)
    scaled = [dataclasses.replace(run, loss=run.loss / 3) for run in runs[:10]]
    x = {"objective": {"_target_": "dit_exp.objective.x.X"}, "data": {"image_size": 16}}
    both = joined(
        tmp_path / "both",
        synthetic.write_sweep(tmp_path / "eps", runs),
        synthetic.write_sweep(tmp_path / "x", scaled, **x),
    )
    with pytest.raises(UserError) as refused:
        scaling(setting(tmp_path / "out"), str(both))
    text = str(refused.value)
    assert "The validation losses of these 30 runs are 2 quantities" in text
    assert "They differ in data.image_size, objective:" in text
    eps = "dit_exp.objective.eps.Eps (20 runs like #0)"
    assert f"objective: {eps}, dit_exp.objective.x.X (10 runs like #20)" in text
    assert not (tmp_path / "out").exists()


def test_losses_of_one_kind_from_other_places_are_fitted_together(tmp_path: Path):
    runs = synthetic.grid(BUDGETS)
    there = synthetic.write_sweep(tmp_path / "there", runs[10:], data={"root": "/scratch"})
    both = joined(tmp_path / "both", synthetic.write_sweep(tmp_path / "here", runs[:10]), there)
    assert [run.loss for run in runs_of(read(both))] == [run.loss for run in runs]


@pytest.mark.parametrize("name", ["cosine.Cosine", "wsd.WarmupStableDecay"])
def test_curves_are_cut_at_a_constant_learning_rate_alone(tmp_path: Path, name: str):
    falls = {"lr_schedule": {"_target_": f"dit_exp.lr_schedule.{name}", "final": 0.0}}
    place = synthetic.write_sweep(tmp_path / "s", synthetic.grid(BUDGETS), trainer=falls).folder
    text = rf"run #0 has .*{name}: pass task.slices=0 .*lr_schedule=constant\.$"
    with pytest.raises(UserError, match=text):
        scaling(setting(tmp_path / "out"), str(place), slices=12)
    assert len(runs_of(read(place))) == 20  # each at its end


def test_a_model_without_a_width_keeps_its_fit_and_is_told_of_no_next_sweep(tmp_path: Path, caplog):
    runs = [dataclasses.replace(run, model={"channels": 8}) for run in synthetic.grid(BUDGETS)]
    sweep = synthetic.write_sweep(tmp_path / "sweep", runs)
    with caplog.at_level(logging.INFO):
        scaling(setting(tmp_path / "out"), str(sweep.folder), resamples=50)
    numbers = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert numbers["law"]["b"]["value"] == pytest.approx(synthetic.LOSS_EXPONENT, rel=0.05)
    assert "next" not in numbers
    assert not (sweep.folder / "next").exists()
    assert "No next sweep is written: the models have no model.width" in caplog.text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"budget": 1e15, "minutes": 3.0}, r"task.budget is in FLOP and task.minutes in minutes.*Pass one"),
        ({"budget": -1.0}, r"task.budget=-1.0 must be above 0"),
        ({"minutes": 0.0}, r"task.minutes=0.0 must be above 0"),
        ({"resamples": 3}, r"task.resamples=3 at least 40"),
        ({"slices": -1}, r"task.slices=-1 must be 0 or more"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(tmp_path: Path, given, text: str):
    with pytest.raises(UserError, match=text):
        scaling(setting(tmp_path), str(tmp_path), **given)

"""A sweep: what it leaves, what happens to runs that fail, and what the same command does again."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dit_exp.cli import sweep_name
from dit_exp.errors import UserError
from dit_exp.sweep import folder
from dit_exp.sweep.folder import Cell, Sweep
from dit_exp.sweep.summary import counts, summary

PROJECT = Path(__file__).parents[2]
TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler.steps=2", "model.width=32",
    "model.depth=1", "model.heads=4", "trainer.batch_size=32", "trainer.max_steps=4",
    "trainer.warmup_steps=1",
]  # fmt: skip


def sweep(cwd: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a sweep in `cwd`; `path` is where its programs are looked for."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DIT_EXP_SWEEP")}
    env["PATH"] = path or env["PATH"]
    command = [sys.executable, str(PROJECT / "run.py"), "-m", *TINY, *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


def states(place: Path) -> list[tuple[str, int]]:
    return [(cell.status.state, cell.status.attempts) for cell in folder.read(place).cells]


@pytest.mark.system
def test_a_failed_run_is_listed_and_alone_runs_again(tmp_path: Path):
    words = ["model.heads=4,5", "seed=0,1"]
    done = sweep(tmp_path, *words)
    [place] = (tmp_path / "runs" / "sweeps").iterdir()
    assert done.returncode == 2
    assert "2 of 4 runs of the sweep failed:" in done.stderr
    assert "model.heads=5 seed=0" in done.stderr.replace("\n", " ")
    assert "5" in done.stderr.split("2: ")[1]
    assert "Traceback" not in done.stderr
    assert states(place) == [("finished", 1), ("finished", 1), ("failed", 1), ("failed", 1)]
    assert "width=32" in folder.read(place).cells[2].status.error

    # the cause is mended, here by the clock: the width that the heads did not divide
    again = sweep(tmp_path, *words)
    assert states(place) == [("finished", 1), ("finished", 1), ("failed", 2), ("failed", 2)]
    assert "4 runs, 2 of them done" in again.stdout + again.stderr

    whole = sweep(tmp_path, "model.heads=4", "seed=0,1")
    assert whole.returncode == 0, whole.stderr
    assert len(list((tmp_path / "runs" / "sweeps").iterdir())) == 2


@pytest.mark.system
def test_local_jobs_do_the_same_as_this_process(tmp_path: Path):
    words = ["model.heads=4,5", "run_dir=s", "hydra/launcher=local", "hydra.launcher.at_once=2"]
    done = sweep(tmp_path, *words)
    assert done.returncode == 2
    assert states(tmp_path / "s") == [("finished", 1), ("failed", 1)]
    [failed] = [cell for cell in folder.read(tmp_path / "s").cells if cell.status.state == "failed"]
    assert failed.status.log in done.stderr
    assert Path(failed.status.log).exists()
    assert "width=32" in Path(failed.status.log).read_text()


@pytest.mark.system
def test_a_directory_of_another_sweep_and_one_in_use_are_refused(tmp_path: Path):
    assert sweep(tmp_path, "seed=0,1", "run_dir=s").returncode == 0
    other = sweep(tmp_path, "seed=2,3", "run_dir=s")
    assert other.returncode == 2
    assert "holds another sweep" in other.stderr
    with (tmp_path / "s" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        busy = sweep(tmp_path, "seed=0,1", "run_dir=s")
    assert busy.returncode == 2
    assert "is being run by another process" in busy.stderr


@pytest.mark.system
def test_slurm_that_is_not_here_is_said(tmp_path: Path):
    done = sweep(tmp_path, "seed=0,1", "hydra/launcher=slurm", path=str(tmp_path))
    assert done.returncode == 2
    assert "needs Slurm's sbatch" in done.stderr


def test_the_name_follows_from_what_is_run_and_not_from_where():
    name = sweep_name(["-m", "+sweep=conditioning", "seed=0,1"])
    assert name.startswith("conditioning-")
    same = ["seed=0,1", "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "+sweep=conditioning"]
    assert sweep_name([*same, "tracker=none"]) == name
    assert sweep_name(["-m", "+sweep=conditioning", "seed=0,2"]) != name
    assert sweep_name(["-m", "seed=0,1"]).startswith("sweep-")


def test_a_sweep_is_read_as_it_was_written(tmp_path: Path):
    cells = [Cell(i, [f"cond={c}", "seed=1"], tmp_path / str(i)) for i, c in enumerate(("adaln", "token"))]
    written = Sweep(tmp_path, "conditioning", ["+sweep=conditioning"], cells, "abc")
    written.write()
    assert folder.read(tmp_path) == written
    assert written.axes == {"cond": ["adaln", "token"]}
    cells[0].change(state="finished", attempts=3, value=1.5)
    cells[1].change(state="failed", attempts=1)
    assert counts(written) == {"finished": 1.0, "failed": 1.0, "restarts": 2.0}
    assert summary(written).splitlines()[1].split() == ["0", "adaln", "finished", "3", "1.5"]
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        folder.read(tmp_path)
    with pytest.raises(UserError, match="holds no sweep"):
        folder.read(tmp_path / "0")


def test_plans_are_added_up(tmp_path: Path):
    cells = [Cell(i, [f"seed={i}"], tmp_path / str(i)) for i in range(2)]
    for cell in cells:
        cell.change(state="finished")
        (cell.folder / "plan.json").write_text(json.dumps({"total_minutes": 45.0, "cost": 1.25}))
    text = summary(Sweep(tmp_path, "sweep", [], cells))
    assert text.splitlines()[-1] == "The sweep takes 1.50 hours of one job at a time, and costs 2.50."


@pytest.mark.system
def test_a_search_goes_on_beside_a_failed_run_and_the_same_command_takes_it_up(tmp_path: Path):
    """TPE draws at random until two runs have succeeded, and by what they gave from then on."""
    words = [
        "hydra/sweeper=optuna", "hydra.sweeper.direction=minimize", "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.max_failure_rate=0.5", "hydra.sweeper.sampler.seed=0",
        "hydra.sweeper.sampler.n_startup_trials=2", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "run_dir=s",
    ]  # fmt: skip
    place = tmp_path / "s"
    fault = place / "1" / "history.jsonl"
    fault.mkdir(parents=True)  # run 1 cannot write its trace
    first = sweep(tmp_path, *words, "hydra.sweeper.n_trials=4")
    assert first.returncode == 0, first.stderr
    expected = [("finished", 1)] * 4
    expected[1] = ("failed", 1)
    assert states(place) == expected
    asked = [cell.overrides for cell in folder.read(place).cells]

    fault.rmdir()  # it would succeed
    again = sweep(tmp_path, *words, "hydra.sweeper.n_trials=5")
    assert again.returncode == 0, again.stderr
    assert states(place) == [*expected, ("finished", 1)]
    assert [cell.overrides for cell in folder.read(place).cells][:4] == asked
    assert "#1 stays failed: the search chose its later runs by that." in again.stdout + again.stderr


@pytest.mark.system
def test_a_sweep_of_several_processes_is_refused_by_each_of_them(tmp_path: Path):
    env = {key: value for key, value in os.environ.items() if not key.startswith("DIT_EXP_SWEEP")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = env | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(PROJECT / "run.py"), "-m", *TINY, "seed=0,1", "run_dir=s"]
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=ranks | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2, err
        assert "A sweep is launched by one process, and this is one of 2" in err
        assert "hydra.launcher.tasks_per_node" in err
    assert not (tmp_path / "s" / "sweep.json").exists()

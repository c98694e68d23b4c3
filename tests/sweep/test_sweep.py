"""A sweep: what it leaves, what happens to runs that fail, and what the same command does again."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import program
import pytest
from composing import composed
from omegaconf import open_dict

from dit_exp.cli import sweep_name
from dit_exp.errors import UserError
from dit_exp.sweep import folder
from dit_exp.sweep.folder import Cell, Sweep
from dit_exp.sweep.refused import refuse
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
    return program.run("-m", *TINY, *words, cwd=cwd, env=env)


def states(place: Path) -> list[tuple[str, int]]:
    return [(cell.status.state, cell.status.attempts) for cell in folder.read(place).cells]


@pytest.mark.system
def test_failed_runs_are_listed_and_they_alone_run_again_when_the_cause_is_mended(tmp_path: Path):
    words, place = ["model.heads=4,8", "seed=0,1", "run_dir=s"], tmp_path / "s"
    with ExitStack() as taken:  # the cause: another process has the folders of the last two runs
        for number in ("2", "3"):
            (place / number).mkdir(parents=True)
            fcntl.flock(taken.enter_context((place / number / ".lock").open("w")), fcntl.LOCK_EX)
        done = sweep(tmp_path, *words)
    assert done.returncode == 2
    assert "2 of 4 runs of the sweep failed:" in done.stderr
    listed = " ".join(done.stderr.split())
    for number, seed in ((2, 0), (3, 1)):
        assert f"{number}: model.heads=8 seed={seed} run_dir={place}/{number} is in use" in listed
    assert "Traceback" not in done.stderr
    assert states(place) == [("finished", 1), ("finished", 1), ("failed", 1), ("failed", 1)]
    assert "is in use by another process" in folder.read(place).cells[2].status.error

    again = sweep(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert "4 runs, 2 of them done" in again.stdout + again.stderr
    assert states(place) == [("finished", 1), ("finished", 1), ("finished", 2), ("finished", 2)]
    unknown = [cell.metrics["memory_gib"] is None for cell in folder.read(place).cells]
    assert unknown == [False, True, False, True]  # of the second run in each process


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


@pytest.mark.system
def test_a_sweep_with_a_bad_value_is_refused_before_any_run_is_submitted(tmp_path: Path):
    words = ["seed=0,1,2", "model.width=abc,32", "hydra/launcher=local", "run_dir=s"]
    done = sweep(tmp_path, *words)
    assert done.returncode == 2
    assert "3 of 6 runs cannot be begun, so none is:" in done.stderr
    assert "model.width=abc seed=0, and 2 more" in done.stderr
    assert "model.width='abc': expected int, got str" in done.stderr
    assert done.stderr.count("expected int") == 1
    assert not (tmp_path / "s" / "sweep.json").exists()
    assert not (tmp_path / "s" / "jobs").exists()


def test_runs_that_cannot_be_begun_are_named_by_what_is_theirs():
    cells = [["data=digits", f"model.depth={d}", f"seed={seed}"] for d in ("1", "x") for seed in (0, 1)]
    configs = [composed(words)[0] for words in cells]
    with open_dict(configs[3]):
        configs[3].model.widht = 3
    with pytest.raises(UserError) as refused:
        refuse(cells, configs)
    first, second = str(refused.value).split("\n  model.depth=x seed=1")
    assert first.startswith("2 of 4 runs cannot be begun, so none is:\n  model.depth=x seed=0\n")
    assert "widht" not in first
    assert "model.widht=3: " in second
    assert "data=digits" not in str(refused.value)
    refuse(cells[:2], configs[:2])


def test_the_name_follows_from_what_is_run_and_not_from_where():
    name = sweep_name(["-m", "+sweep=conditioning", "seed=0,1"])
    assert name.startswith("conditioning-")
    same = ["seed=0,1", "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "+sweep=conditioning"]
    assert sweep_name([*same, "tracker=none"]) == name
    assert sweep_name(["-m", "+sweep=conditioning", "seed=0,2"]) != name
    assert sweep_name(["-m", "seed=0,1"]).startswith("sweep-")


def test_files_of_one_name_on_two_search_paths_are_two_sweeps():
    names = {sweep_name([f"hydra.searchpath=[file:///{place}/next]", "+sweep=law"]) for place in "ab"}
    assert len(names) == 2
    assert {name.rpartition("-")[0] for name in names} == {"law"}


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

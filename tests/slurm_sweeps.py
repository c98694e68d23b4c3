"""Tiny sweeps through the Slurm of the tests, and looks at how they are getting on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import program
import torch
import yaml
from slurm_cluster import Cluster

from dit_exp import checkpoint
from dit_exp.sweep import folder
from dit_exp.sweep.folder import Cell
from dit_exp.trainer.history import read_rows

PROJECT = Path(__file__).parents[1]
TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler.steps=2", "model.width=32",
    "model.depth=1", "model.heads=4", "trainer.batch_size=32", "trainer.max_steps=30", "trainer.log_every=1",
    "trainer.warmup_steps=1", "trainer.checkpoint_every=10", "trainer.sample_every=0",
]  # fmt: skip
OFFLINE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")} | {
    "no_proxy": "127.0.0.1,localhost"
}
"""A job reaches this machine alone: where the others are asked for, nobody listens."""
SETUP = [
    *yaml.safe_load((PROJECT / "conf" / "hydra" / "launcher" / "slurm.yaml").read_text())["setup"],
    *(f"export {name}={value}" for name, value in {"OMP_NUM_THREADS": "1", **OFFLINE}.items()),
]
SLURM = [
    "hydra/launcher=slurm", "hydra.launcher.partition=test", "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2",
    f"hydra.launcher.setup={SETUP}",
]  # fmt: skip


def start(cluster: Cluster, cwd: Path, *words: str) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("DIT_EXP_SWEEP")}
    command = [sys.executable, str(PROJECT / "run.py"), "-m", *TINY, *SLURM, *words]
    return subprocess.Popen(
        command, cwd=cwd, env=env | cluster.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(run: subprocess.Popen[str], code: int = 0) -> str:
    out, err = run.communicate(timeout=600)
    assert run.returncode == code, out + err
    return out + err


def until(reached, what: str, run: subprocess.Popen[str] | None = None, seconds: int = 240) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert run is None or run.poll() is None, run.communicate()
        assert time.monotonic() < end, what
        time.sleep(0.05)


def steps(cell: Path) -> int:
    rows = read_rows(cell / "history.jsonl")
    return rows[-1]["step"] if rows else 0


def jobs(cluster: Cluster) -> list[list[str]]:
    """[id, state, node] of each job that waits or runs."""
    return [line.split("|") for line in cluster.output("squeue", "-hr", "-o", "%i|%T|%N").splitlines()]


def hasten(cluster: Cluster) -> None:
    """Starts requeued jobs in 3 seconds and not in the two minutes that Slurm makes them wait.

    Not at once: within the second in which a job was ended, a node refuses to start it again.
    """
    soon = datetime.now() + timedelta(seconds=10)
    for line in cluster.output("squeue", "-hr", "--states=PENDING", "-o", "%i|%S").splitlines():
        job, begin = line.split("|")
        if begin != "N/A" and datetime.fromisoformat(begin) > soon:
            # Slurm refuses it for a job that has just begun.
            command = ["scontrol", "update", f"JobId={job}", "StartTime=now+3"]
            subprocess.run(command, env=os.environ | cluster.env, capture_output=True, check=False)


def sweep_of(place: Path) -> list[Cell]:
    return folder.read(place).cells


def in_this_process(place: Path, *words: str) -> None:
    done = program.run(*TINY, *words, f"run_dir={place}", env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr


def assert_same_run(one: Path, two: Path) -> None:
    (_, a), (_, b) = checkpoint.find(str(one)), checkpoint.find(str(two))
    assert a["step"] == b["step"]
    for part in ("model", "ema"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), f"{part} {key}"
    assert (one / "history.jsonl").read_bytes() == (two / "history.jsonl").read_bytes()


def processes(cluster: Cluster) -> dict[str, int]:
    """{rank: process id} of the run that this cluster is at."""
    pids = cluster.output("pgrep", "-f", "submitit.core._submit").split()
    found = {pid: environment(pid) for pid in pids}
    return {
        env["SLURM_PROCID"]: int(pid)
        for pid, env in found.items()
        if env.get("SLURM_CONF") == cluster.env["SLURM_CONF"] and "SLURM_STEP_NUM_TASKS" in env
    }


def environment(pid: str | int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)

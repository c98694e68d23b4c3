"""Starting: help, and a training up to its first step, against what they could not be without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import PROJECT
from benchmarks.paired import Job, Row, Setting, compared, interleaved
from benchmarks.startup import EMPTY

HELP_SECONDS, FIRST_STEP = 1.3, 0.7
ROUNDS = 2
"""Of trainings, which take seconds each."""

# The same program, had its files imported at their top what they import where they use it.
EAGER = """
import runpy, sys
import torch, torch.distributed.checkpoint, mlflow, torch_fidelity, torchvision, timm, diffusers
import matplotlib.pyplot, pyarrow.parquet, scipy.stats, scipy.optimize, vector_quantize_pytorch
import huggingface_hub, submitit

sys.argv = [PROGRAM, *sys.argv[1:]]
sys.path.insert(0, FOLDER)
runpy.run_path(PROGRAM, run_name="__main__")
"""
TRAIN = [
    "data=digits", "data.image_size=8", "model.width=32", "model.depth=1", "model.heads=4", "metrics=none",
    "tracker=none", "sampler.steps=1", "trainer.max_steps=1", "trainer.batch_size=4", "run_dir=run",
    "trainer.resume=false",
]  # fmt: skip


def rows(setting: Setting) -> Iterator[Row]:
    program = str(PROJECT / "run.py")
    with tempfile.TemporaryDirectory() as folder:
        empty, eager = (Path(folder) / name for name in ("empty_app.py", "eager.py"))
        empty.write_text(EMPTY)
        program_text = EAGER.replace("PROGRAM", json.dumps(program))
        eager.write_text(program_text.replace("FOLDER", json.dumps(str(PROJECT))))

        def command(*words: str) -> Job:
            def job() -> None:
                done = subprocess.run(
                    [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False,
                    env=os.environ | {"DIT_EXP_CACHE": folder},
                )  # fmt: skip
                if done.returncode:
                    raise AssertionError(f"{' '.join(words)} failed: {done.stderr[-2000:]}")

            return job

        jobs = {"ours": command(program, "--help"), "an empty Hydra app": command(str(empty), "--help")}
        times = interleaved(jobs, setting)
        yield compared(times, "ours", "an empty Hydra app", "start", "--help", 1 / HELP_SECONDS)
        jobs = {"ours": command(program, *TRAIN), "all libraries imported": command(str(eager), *TRAIN)}
        few = Setting(setting.device, min(ROUNDS, setting.rounds), setting.quick)
        times = interleaved(jobs, few)
        work = "train of one step, with its checkpoint and pictures"
        yield compared(times, "ours", "all libraries imported", "start", work, 1 / FIRST_STEP)

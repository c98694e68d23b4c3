"""run.py as a user starts it, without the seconds in which the libraries are imported.

A server of `multiprocessing` has them; each program is a fork of it, which imports the project anew.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import torch

RUN = Path(__file__).parents[1] / "run.py"
LIBRARIES = ["torch._dynamo", "mlflow", "matplotlib.backends.backend_agg"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LIBRARIES)


def run(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 300
) -> CompletedProcess[str]:
    """What `python run.py WORDS` prints and the code that it ends with; `env` is all of its environment."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder) / name for name in ("out", "err"))
        process = _context.Process(
            target=_run, args=(words, cwd or Path.cwd(), dict(env or os.environ), out, err)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(words, timeout, out.read_bytes(), err.read_bytes())
        return CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def _run(words: tuple[str, ...], cwd: Path, env: dict[str, str], out: Path, err: Path) -> None:
    for place, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if "OMP_NUM_THREADS" in env:  # which torch reads when it is imported
        torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    sys.argv = [str(RUN), *words]
    sys.path[0] = str(RUN.parent)
    try:
        runpy.run_path(str(RUN), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which such a process would leave out

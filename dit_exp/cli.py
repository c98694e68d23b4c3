"""From an exception to one message on the terminal and an exit code.

Hydra is asked to let exceptions through, since by itself it prints stack traces for a mistyped key.
0 is success, 1 a failure of the program or the machine, 2 a mistake that the user can mend, 130 an interrupt.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hydra.core.plugins import Plugins

from dit_exp import parallel
from dit_exp.errors import Stopped
from dit_exp.messages import FULL_ERROR, explain

INTERRUPTED = 130

OF_TASK = {"sweep": "task.sweep", "cache.path": "task.path"}
"""Keys of a task by the names that they have on the command line."""


def run(main: Callable[[], object]) -> int:
    """Runs a `hydra.main` function and returns the exit code.

    Where the user has set HYDRA_FULL_ERROR=1, exceptions pass as they are.
    """
    # `+sweep=NAME` chooses a sweep to run; `sweep=PARENT` is one that was run, for the task to read.
    # `cache` is the folder for decoded data; `cache.path=DIR` is where task=cache puts latents.
    sys.argv[1:] = words = [_of_task(word) for word in sys.argv[1:]]
    if not any(word.startswith("run_dir=") for word in words):
        os.environ["DIT_EXP_SWEEP_DIR"] = f"runs/sweeps/{sweep_name(words)}"
    if os.environ.get(FULL_ERROR) == "1":
        main()
        return 0
    os.environ[FULL_ERROR] = "1"
    _register_launchers()
    try:
        if parallel.start().size > 1:  # all processes of a run share its directory, whose name is a time
            moment = parallel.from_main(lambda: time.strftime("%Y-%m-%d/%H-%M-%S"))
            os.environ.setdefault("DIT_EXP_START", moment)
        main()
        return 0
    except KeyboardInterrupt:
        text, code = "Interrupted.", INTERRUPTED
    except Stopped as stopped:
        text, code = str(stopped), stopped.code
    except BrokenPipeError:  # whoever read the output, as in `--help | head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        text, code = explain(error, _groups(main))
    finally:
        del os.environ[FULL_ERROR]
        parallel.stop()
    _log(text)
    rank = parallel.world().rank
    print(f"Process {rank}: {text}" if rank else text, file=sys.stderr)
    return code


def _of_task(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{OF_TASK[key]}={value}" if key in OF_TASK else word


def _register_launchers() -> None:
    """Hydra takes launchers from the namespace of its plugins alone, so ours are entered there by name."""
    from dit_exp.sweep import launcher

    for launch in (launcher.Launcher, launcher.LocalLauncher, launcher.SlurmLauncher):
        Plugins.instance().class_name_to_class[f"hydra_plugins.dit_exp.{launch.__name__}"] = launch


def sweep_name(words: list[str]) -> str:
    """The name of a sweep's folder: the same for the same command, wherever its runs are launched.

    A search path counts: it says which files the names in the command mean.
    """
    beside = ("-", "hydra.", "hydra/", "run_dir=", "tracker")
    own = sorted(w for w in words if w.startswith("hydra.searchpath=") or not w.startswith(beside))
    [name] = [w.partition("=")[2] for w in own if w.startswith("+sweep=")][-1:] or ["sweep"]
    return f"{name}-{hashlib.sha256(chr(0).join(own).encode()).hexdigest()[:8]}"


def _groups(main: Callable[[], object]) -> list[str]:
    """The groups in the folder conf/ beside the file of `main`."""
    conf = Path(inspect.unwrap(main).__code__.co_filename).parent / "conf"
    return sorted({file.parent.relative_to(conf).as_posix() for file in conf.glob("*/**/*.yaml")})


def _log(text: str) -> None:
    """Appends to the log in the run directory, if Hydra has opened one."""
    for log in logging.getLogger().handlers:
        if isinstance(log, logging.FileHandler):
            log.handle(logging.LogRecord("dit_exp", logging.ERROR, __file__, 0, text, None, None))

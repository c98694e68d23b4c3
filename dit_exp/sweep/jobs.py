"""Jobs as submitit knows them: handing them over, asking whether they are still there, and being one."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.sweep.partition import longest

log = logging.getLogger(__name__)

ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED",
    "TIMEOUT",
}  # fmt: skip
"""States of a job that Slurm does not start again."""

HANDED_ON = ("DIT_EXP_HOME", "PYTHONPATH", "DIT_EXP_CACHE", "MLFLOW_TRACKING_URI")
"""What a job needs of the launching process's environment."""

FRESH = 5.0
"""Seconds for which a listing of the cluster's jobs is believed."""

TURN = 10.0
"""Seconds that the main process of a run has, before another one has the job started anew."""


class Queue(ABC):
    """`params` are the launcher's keys: submitit's, and those that a subclass takes for itself."""

    cluster: str

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = dict(params)
        self.folder = Path(self.params.pop("submitit_folder"))
        self.retries = self.params.pop("max_num_timeout")

    def submit(self, call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[str]:
        """Starts call(*a) for each a and returns the jobs' names."""
        return [job.job_id for job in self._submit(call, arguments)]

    def _submit(self, call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        import submitit
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

        shared = set(BaseQueueConf.__dataclass_fields__)
        executor = submitit.AutoExecutor(
            self.folder, cluster=self.cluster, **{f"{self.cluster}_max_num_timeout": self.retries}
        )
        executor.update_parameters(
            **{key if key in shared else f"{self.cluster}_{key}": v for key, v in self.params.items()}
        )
        return executor.map_array(call, *zip(*arguments, strict=True))

    @abstractmethod
    def room(self, running: int) -> int:
        """How many more jobs may be submitted beside the running ones."""

    @abstractmethod
    def active(self, job: str | None) -> bool:
        """Whether a job waits or runs."""

    @abstractmethod
    def left_behind(self, jobs: str) -> str:
        """What becomes of running jobs when the launching process ends, in a sentence."""

    def held_up(self, jobs: list[str]) -> str:
        """What jobs wait for, in a sentence; empty where one of them has begun."""
        return ""

    def log(self, job: str) -> str:
        """The file with what the job's main process wrote."""
        from submitit.core.utils import JobPaths

        return str(JobPaths(self.folder, job, 0).stderr)


class SlurmQueue(Queue):
    """Slurm, as one job array for each batch; how many run at once is for `array_parallelism`."""

    cluster = "slurm"

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(params)
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm needs Slurm's sbatch, which is not here. Run it on a login node of the "
                "cluster, or use hydra/launcher=local."
            )
        if self.params["tasks_per_node"] is None:
            self.params["tasks_per_node"] = self.params["gpus_per_node"] or 1
        # A cluster need not hand the environment on.
        own = [f"export {name}={shlex.quote(os.environ[name])}" for name in HANDED_ON if name in os.environ]
        self.params["setup"] = [*own, *(self.params["setup"] or [])]
        self._fit()
        self._listed: dict[str, tuple[str, str]] = {}
        self._submitted: set[str] = set()
        self._asked = -FRESH
        self._missing: dict[str, float] = {}

    def _submit(self, call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        from submitit.core.utils import FailedJobError

        try:
            submitted = super()._submit(call, arguments)
            self._submitted |= {job.job_id for job in submitted}
            return submitted
        except (FailedJobError, subprocess.SubprocessError) as error:
            lines = [line for line in str(error).splitlines() if "sbatch" in line] or [str(error)]
            raise UserError(
                f"Slurm does not take the jobs: {lines[-1]}. Mend the keys hydra.launcher.*; "
                "`sinfo` lists the partitions."
            ) from error
        finally:
            self._asked = -FRESH

    def room(self, running: int) -> int:
        return 10**6

    def active(self, job: str | None) -> bool:
        """A job that two listings in a row do not have is gone; one that cannot be asked for is there.

        One listing alone may come before the cluster knows of a job that was just submitted.
        """
        if job is None:
            return False
        if time.monotonic() - self._asked >= FRESH:
            command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T %r"]
            command.append(f"--user={getpass.getuser()}")
            listing = subprocess.run(command, capture_output=True, text=True, check=False)
            if listing.returncode:
                return True
            lines = (line.split(maxsplit=2) for line in listing.stdout.splitlines())
            self._listed = {name: (state, why) for name, state, why in lines if state not in ENDED}
            self._asked = time.monotonic()
        if job in self._listed:
            self._missing.pop(job, None)
            return True
        return job in self._submitted and self._missing.setdefault(job, self._asked) == self._asked

    def left_behind(self, jobs: str) -> str:
        return f"The jobs go on; `scancel {jobs}` ends them."

    def held_up(self, jobs: list[str]) -> str:
        waiting = {job: self._listed[job][1] for job in jobs if job in self._listed}
        if any(self._listed[job][0] != "PENDING" for job in waiting) or not waiting:
            return ""
        reasons = ", ".join(sorted(set(waiting.values())))
        return f"What the jobs wait for, by squeue: {reasons}. `scancel {' '.join(waiting)}` ends them."

    def _fit(self) -> None:
        """Asks for no more time than the partition gives: a job that does would wait for ever.

        A partition that scontrol does not know is for sbatch to refuse.
        """
        try:
            limit = longest(self.params["partition"])
        except UserError:
            return
        if (asked := self.params["timeout_min"]) > limit:
            self.params["timeout_min"] = max(1, int(limit))
            log.info(
                "hydra.launcher.timeout_min=%d is more than the partition gives, so a job gets %d minutes. A "
                "run that needs longer is started again and goes on, up to %d times.",
                asked,
                self.params["timeout_min"],
                self.retries,
            )


class LocalQueue(Queue):
    """Processes of this machine, `at_once` of them together."""

    cluster = "local"

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.at_once = self.params.pop("at_once")
        self.params["tasks_per_node"] = 1
        if self.at_once < 1:
            raise UserError(f"hydra.launcher.at_once={self.at_once} must be at least 1.")
        self._jobs: dict[str, Any] = {}

    def _submit(self, call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        jobs = super()._submit(call, arguments)
        self._jobs |= {job.job_id: job for job in jobs}
        return jobs

    def room(self, running: int) -> int:
        return self.at_once - running

    def active(self, job: str | None) -> bool:
        return job in self._jobs and not self._jobs[job].done()

    def left_behind(self, jobs: str) -> str:
        return f"The processes {jobs} end with what they were doing."


def in_a_job() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_FOLDER" in os.environ


def own_log(cell: Path) -> str:
    """The file that this job's errors go to; outside of one, the log of the cell's folder."""
    if not in_a_job():
        return str(cell / "run.log")
    import submitit

    return str(submitit.JobEnvironment().paths.stderr)


def await_turn() -> None:
    """Returns in the one process of a run that has its job started anew; the cluster ends the others here.

    That is the main process, or after TURN seconds another one: the main one may be blocked in waiting for
    what this one, stopped by the signal, no longer sends, and a blocked process does not heed a signal.
    """
    here = parallel.world()
    if not in_a_job() or here.size == 1:
        return
    if not here.main:
        time.sleep(TURN)
    import submitit

    job = submitit.JobEnvironment()
    start = os.environ.get("SLURM_RESTART_COUNT", "0")
    try:
        (job.paths.folder / f"{job.job_id}_{start}_requeued").touch(exist_ok=False)
    except FileExistsError:
        while True:
            time.sleep(1)
    os.environ["SLURM_PROCID"] = "0"  # by this submitit knows the main process, as the run's status does


def requeue() -> None:
    """Ends this process and has its job started anew, as the signal's handler of submitit does.

    Only where `await_turn` has returned. Raises what submitit raises for a job that had its time too often.
    """
    if in_a_job():
        signal.raise_signal(signal.SIGUSR2)

"""Where the cells of a sweep run: in this process, in processes of this machine, or as jobs of Slurm.

On top of hydra-submitit-launcher, which ends a sweep with its first failed job: here the others finish, the
failures are listed, and the same command again runs only what is not done. What is known of a cell is what
its folder says, so a launching process that was ended finds its jobs again.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import InstantiationException
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import open_dict

from dit_exp import parallel
from dit_exp.errors import Stopped, UserError
from dit_exp.messages import explain
from dit_exp.revision import revision
from dit_exp.sweep import folder, jobs
from dit_exp.sweep.folder import Cell, State, Status, Sweep
from dit_exp.sweep.gpus import VISIBLE, Leases, present
from dit_exp.sweep.parent import parent_run
from dit_exp.sweep.refused import refuse
from dit_exp.sweep.summary import counts, scored, summary
from dit_exp.tracker.spool import FOLDER, known_run

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds to wait for the tracking server before the runs begin, and before the end."""

POLL = 1.0
"""Seconds between looks at the cells' folders."""

STILL = 60.0
"""Seconds without a run that has started, after which it is said what the jobs wait for."""


class Launcher(BaseSubmititLauncher):
    """Runs cells one after another in this process. Its subclasses say how a cell is submitted instead."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        if (size := parallel.world().size) > 1:
            raise UserError(
                f"A sweep is launched by one process, and this is one of {size}. Start it without torchrun "
                "or srun; hydra/launcher=slurm gives each run hydra.launcher.tasks_per_node processes."
            )
        root = Path(str(self.config.hydra.sweep.dir)).absolute()
        # The jobs compose their configuration anew, and must not think of another name.
        place = str(root).replace("\\", "\\\\").replace('"', '\\"')
        named = [[*overrides, f'hydra.sweep.dir="{place}"'] for overrides in job_overrides]
        with folder.lock(root) as got:
            if not got:
                raise UserError(
                    f"This sweep is being run by another process, in {root}. Wait for it, or pass "
                    "run_dir=DIR to run it once more."
                )
            self._prepare(named)
            cells = _cells(root, list(self.config.hydra.overrides.task), job_overrides, initial_job_idx)
            sweep = folder.read(root)
            ends = {"finished", "failed"} if self._chosen_after(sweep, cells[-1].number) else {"finished"}
            waiting = [i for i, cell in enumerate(cells) if cell.status.state not in ends]
            for cell in cells if "failed" in ends else []:
                if cell.status.state == "failed":
                    log.warning("#%d stays failed: the search chose its later runs by that.", cell.number)
            done = f", {len(cells) - len(waiting)} of them done" if len(waiting) < len(cells) else ""
            log.info("%d runs%s, in %s", len(cells), done, root)
            with parent_run(self._tracker(named[0]), sweep) as tracker:
                _await_run(root)
                try:
                    self._work(sweep, {cells[i].number: named[i] for i in waiting})
                finally:
                    tracker.log(counts(sweep), step=sum(cell.status.attempts for cell in sweep.cells))
                    if columns := scored(sweep):
                        tracker.view(root.name, columns, list(sweep.axes))
                    _await_run(root)
                    ended = [cell for cell in cells if cell.status.state in ("finished", "failed")]
                    all(tracker.deliver(cell.folder) for cell in ended)  # up to the first that it cannot send
            print(summary(folder.read(root)))
        failure = _failure(cells, sweep)
        return [_returned(cell, failure) for cell in cells]

    def __call__(
        self,
        sweep_overrides: list[str],
        job_dir_key: str,
        job_num: int,
        job_id: str,
        singleton_state: dict[type, Singleton],
    ) -> JobReturn:
        """Runs a cell; this is what a job does. Only the main process of several writes the status."""
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.task_function is not None
        self._begin(job_num)
        Singleton.set_state(singleton_state)
        setup_globals()
        config = self.hydra_context.config_loader.load_sweep_config(self.config, sweep_overrides)
        with open_dict(config.hydra.job):
            config.hydra.job.id, config.hydra.job.num = job_id, job_num
        root = Path(str(config.hydra.sweep.dir))
        cell = next(cell for cell in folder.read(root).cells if cell.number == job_num)
        self._note(
            cell,
            state="running",
            attempts=cell.status.attempts + 1,
            error=None,
            log=jobs.own_log(cell.folder),
        )
        try:
            done = run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=config,
                job_dir_key=job_dir_key,
                job_subdir_key="hydra.sweep.subdir",
            )
            value = done.return_value
            self._note(cell, state="finished", value=None if value is None else float(value))
        except Stopped as stopped:
            if stopped.preempted:
                jobs.await_turn()
            self._note(cell, state=self._stopped(stopped), error=str(stopped))
            if stopped.preempted:
                self._requeue(cell)
            if jobs.in_a_job():
                raise SystemExit(stopped.code) from None
            raise
        except Exception as error:
            text, _ = explain(error, [])
            log.error("%s", text)
            self._note(cell, state="failed", error=text)
            if parallel.world().size > 1:  # the others would wait for this one
                raise SystemExit(1) from None
        return _returned(cell, UserError(cell.status.error))

    def _begin(self, number: int) -> None:
        """What a cell's process needs before anything else."""

    def _stopped(self, stopped: Stopped) -> State:
        """What a signal makes of a cell. A job that got SIGTERM may be started again: its queue knows."""
        if stopped.preempted:
            return "requeued"
        return "stopped" if jobs.in_a_job() else "failed"

    def _note(self, cell: Cell, **changes: Any) -> None:
        if parallel.world().main:
            cell.change(**changes)

    def _requeue(self, cell: Cell) -> None:
        try:
            jobs.requeue()
        except Exception as error:  # of submitit: it had its time too often
            self._note(cell, state="failed", error=str(error))
            raise

    def _prepare(self, job_overrides: list[list[str]]) -> None:
        """Says here what a job would refuse or miss, and fetches data from a hub, where there is a net."""
        from hydra.utils import instantiate

        assert self.hydra_context is not None
        assert self.config is not None
        load = self.hydra_context.config_loader.load_sweep_config
        configs = [load(self.config, overrides) for overrides in job_overrides]
        refuse(job_overrides, configs)
        seen, refused = [], []
        for config in configs:
            if config.checkpoint is not None or config.data in seen:  # a checkpoint brings its own data
                continue
            seen.append(config.data)
            try:
                instantiate(config.data).check()
            except (UserError, InstantiationException) as error:  # a constructor's refusal comes in Hydra's
                refused.append(UserError(explain(error, [])[0]))
                log.warning("%s", refused[-1])
        if refused and len(refused) == len(seen):
            raise refused[0]

    def _chosen_after(self, sweep: Sweep, number: int) -> bool:
        """Whether a search has chosen runs by what came of those up to this one."""
        assert self.config is not None
        searching = self.config.hydra.runtime.choices["hydra/sweeper"] != "basic"
        return searching and any(cell.number > number for cell in sweep.cells)

    def _tracker(self, overrides: list[str]) -> Any:
        from hydra.utils import instantiate

        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        return instantiate(config.tracker)

    def _work(self, sweep: Sweep, todo: dict[int, list[str]]) -> None:
        """Brings the cells of these numbers to an end, whatever that is; the values are their overrides."""
        for number, overrides in todo.items():
            log.info("#%d: %s", number, next(c.own(sweep) for c in sweep.cells if c.number == number))
            self(overrides, "hydra.sweep.dir", number, str(number), Singleton.get_state())
            setup_globals()


class _Submitting(Launcher):
    """Hands the cells to submitit and waits."""

    queue: type[jobs.Queue]

    def _work(self, sweep: Sweep, todo: dict[int, list[str]]) -> None:
        queue = self.queue(self.params)
        cells = {cell.number: cell for cell in sweep.cells if cell.number in todo}
        running = {number for number, cell in cells.items() if queue.active(cell.job)}
        if running:
            log.info("%d jobs of an earlier command are still there, and are waited for.", len(running))
        rest = [number for number in cells if number not in running]
        look = time.monotonic() + STILL
        try:
            while rest or running:
                batch, rest = rest[: queue.room(len(running))], rest[queue.room(len(running)) :]
                if batch:
                    self._submit(queue, sweep, {number: (cells[number], todo[number]) for number in batch})
                    running |= set(batch)
                time.sleep(POLL)
                running -= {number for number in running if self._ended(queue, cells[number])}
                if len(running) == len(todo) and time.monotonic() > look:
                    look = math.inf  # it is said once
                    if held := queue.held_up([str(cells[number].job) for number in sorted(running)]):
                        log.warning("No run has started for %d seconds. %s", STILL, held)
        except KeyboardInterrupt:
            listed = " ".join(str(cells[number].job) for number in sorted(running))
            raise Stopped(
                f"Interrupted. {queue.left_behind(listed)} The same command again takes up the runs that are "
                "not done.",
                128 + signal.SIGINT,
            ) from None

    def _submit(self, queue: jobs.Queue, sweep: Sweep, batch: dict[int, tuple[Cell, list[str]]]) -> None:
        for cell, _ in batch.values():
            cell.change(state="waiting", error=None)
        arguments = [
            (overrides, "hydra.sweep.dir", number, str(number), Singleton.get_state())
            for number, (_, overrides) in batch.items()
        ]
        for (cell, _), job in zip(batch.values(), queue.submit(self, arguments), strict=True):
            cell.job = job
            log.info("#%d, job %s: %s", cell.number, job, cell.own(sweep))
        sweep.write()  # for a command that comes after this one was ended

    def _ended(self, queue: jobs.Queue, cell: Cell) -> bool:
        assert cell.job is not None
        if cell.status.state in ("finished", "failed"):
            return True
        if queue.active(cell.job):
            return False
        if cell.status.state not in ("finished", "failed"):
            cell.change(
                state="failed", error=f"Job {cell.job} was ended from outside.", log=queue.log(cell.job)
            )
        return True


class SlurmLauncher(_Submitting):
    """Each cell is a task of a Slurm job array. conf/hydra/launcher/slurm.yaml says what each key means."""

    queue = jobs.SlurmQueue


class LocalLauncher(_Submitting):
    """Each cell is a process of this machine, `at_once` of them together, on GPUs that are lent to them."""

    queue = jobs.LocalQueue

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.seen, self.leases = os.environ.get(VISIBLE), Leases(present())
        at_once, gpus = self.params["at_once"], len(self.leases.gpus)
        if at_once > gpus > 0:
            log.info("hydra.launcher.at_once=%d runs share the GPUs, of which there are %d.", at_once, gpus)
        return super().launch(job_overrides, initial_job_idx)

    def _begin(self, number: int) -> None:
        shown = self.leases.of(number) or self.seen  # submitit shows a job no GPU
        if shown is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = shown

    def _submit(self, queue: jobs.Queue, sweep: Sweep, batch: dict[int, tuple[Cell, list[str]]]) -> None:
        for number in batch:
            self.leases.take(number)
        super()._submit(queue, sweep, batch)

    def _ended(self, queue: jobs.Queue, cell: Cell) -> bool:
        if not super()._ended(queue, cell) or queue.active(cell.job):  # a process holds its GPU to its end
            return False
        self.leases.give_back(cell.number)
        return True


def _cells(root: Path, command: list[str], job_overrides: Sequence[Sequence[str]], first: int) -> list[Cell]:
    """The cells of these overrides, entered into sweep.json. Raises UserError where it holds other ones."""
    code = revision()["git_commit"]
    if (root / folder.SWEEP_FILE).exists():
        sweep = folder.read(root)
        if sweep.git_commit != code:
            log.warning(
                "The code has changed since this sweep began (%.7s, it is %.7s): runs that are done stay as "
                "they are. run_dir=DIR starts the sweep anew.",
                sweep.git_commit,
                code,
            )
    else:
        sweep = Sweep(root, root.name.rpartition("-")[0] or root.name, command, [], code)
    known, cells, axes = {cell.number: cell for cell in sweep.cells}, [], set(sweep.axes)
    for number, overrides in enumerate(job_overrides, start=first):
        own = [o for o in overrides if not o.startswith(("hydra.", "hydra/", "run_dir="))]
        cell = known.get(number)
        if cell is None:
            cell = Cell(number, own, root / str(number))
            sweep.cells.append(cell)
        elif _on(axes, cell.overrides) != _on(axes, own):
            raise UserError(
                f"{root} holds another sweep: its run {number} is {' '.join(cell.overrides)}, and this "
                f"command's is {' '.join(own)}. Pass another run_dir."
            )
        elif cell.overrides != own:  # a larger budget, say: the run itself knows whether it may go on so
            cell.overrides = own
            cell.change(state="waiting")
        cells.append(cell)
    sweep.write()
    return cells


def _on(axes: set[str], overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if override.lstrip("+").partition("=")[0] in axes]


def _await_run(root: Path) -> None:
    """Waits a little until the tracking server has named the sweep's run, which its cells refer to."""
    end = time.monotonic() + PATIENCE
    while (root / FOLDER).exists() and known_run(root) is None and time.monotonic() < end:
        time.sleep(0.1)


def _failure(cells: list[Cell], sweep: Sweep) -> UserError:
    """What is to be said of the cells that have failed, all of them."""
    failed = [cell for cell in cells if cell.status.state != "finished"]
    listed = "".join(f"\n  {cell.number}: {cell.own(sweep)}\n{_why(cell.status)}" for cell in failed)
    return UserError(
        f"{len(failed)} of {len(cells)} runs of the sweep failed:{listed}\n"
        "The same command again runs these alone, from their checkpoints where they have some."
    )


def _why(status: Status) -> str:
    first = (status.error or "It has not run.").splitlines()[0]
    return f"     {first}" + (f"\n     log: {status.log}" if status.log else "")


def _returned(cell: Cell, failure: UserError) -> JobReturn:
    """What a sweeper reads: the cell's value, or the failure, which it raises or counts."""
    status = cell.status
    if status.state == "finished":
        return JobReturn(overrides=cell.overrides, status=JobStatus.COMPLETED, _return_value=status.value)
    return JobReturn(overrides=cell.overrides, status=JobStatus.FAILED, _return_value=failure)

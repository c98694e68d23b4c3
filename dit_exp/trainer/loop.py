"""The training loop.

Notable: each piece of a step seeds torch from (seed, step, piece), so a resumed run needs no generator state
and repeats an uninterrupted one bit for bit, and two processes draw what one draws that accumulates two
pieces; losses stay on the device until they are logged; nothing is saved before the losses up to it are known
to be finite.
"""

from __future__ import annotations

import functools
import logging
import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dit_exp import checkpoint, parallel
from dit_exp.alignment.none import NoAlignment
from dit_exp.augment.none import NoAugmentation
from dit_exp.device import compiled
from dit_exp.ema import averaged
from dit_exp.errors import Stopped, UserError
from dit_exp.lr_schedule.constant import Constant
from dit_exp.seeds import mix
from dit_exp.trainer.batch import drop_labels, encoded
from dit_exp.trainer.history import History
from dit_exp.trainer.losses import Step, finite_rows
from dit_exp.trainer.memory import PeakMemory
from dit_exp.trainer.profiling import Profile
from dit_exp.trainer.progress import Progress
from dit_exp.trainer.signals import SIGNALS, StopRequest, weight
from dit_exp.trainer.state import TrainState, training_state
from dit_exp.trainer.strategy import DataParallel, FullyShard, chosen, total
from dit_exp.types.data import Augment, Autoencoder, Batch, DataSet
from dit_exp.types.network import Trainable
from dit_exp.types.training import Alignment, Objective, Tracker

log = logging.getLogger(__name__)

Visit = tuple[int, Callable[[TrainState], None]]
"""(every so many images, what is then done with the state); 0 is never."""


class Trainer:
    """Trains until `max_steps`, `max_epochs` or `max_minutes`, whichever ends first.

    conf/trainer/default.yaml says what each key means.
    """

    def __init__(
        self,
        max_steps: int | None = 100_000,
        max_epochs: float | None = None,
        max_minutes: float | None = None,
        batch_size: int = 64,
        accumulate: int = 1,
        precision: Literal["fp32", "bf16"] = "fp32",
        compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False,
        compile_sampling: bool | Literal["default", "reduce-overhead", "max-autotune"] = False,
        strategy: Literal["ddp", "fsdp"] = "ddp",
        gradient_clip: float = 1.0,
        warmup_steps: int = 500,
        lr_schedule: Callable[[float], float] | None = None,
        ema_decay: float = 0.9999,
        checkpoint_every: int = 1000,
        keep: int = 2,
        resume: bool = True,
        log_every: int = 50,
        sample_every: int = 5000,
        profile: bool = False,
        resident_data: bool = False,
    ) -> None:
        if max_steps is None and max_epochs is None and max_minutes is None:
            raise ValueError(
                "A run needs a budget. Set trainer.max_steps, trainer.max_epochs or trainer.max_minutes."
            )
        if min(b for b in (max_steps, max_epochs, max_minutes) if b is not None) <= 0:
            raise ValueError(
                f"trainer.max_steps={max_steps}, trainer.max_epochs={max_epochs} and "
                f"trainer.max_minutes={max_minutes} must be above 0, or null for no limit."
            )
        if batch_size < 1 or accumulate < 1 or batch_size % accumulate:
            raise ValueError(
                f"trainer.accumulate={accumulate} must divide trainer.batch_size={batch_size}, both from 1."
            )
        if min(checkpoint_every, log_every, keep) < 1:
            raise ValueError(
                "trainer.checkpoint_every, trainer.log_every and trainer.keep must be at least 1."
            )
        self.max_steps, self.max_epochs = max_steps, max_epochs
        self.max_seconds = None if max_minutes is None else max_minutes * 60
        self.batch_size, self.accumulate = batch_size, accumulate
        self.precision, self.compile, self.strategy = precision, compile, strategy
        self.gradient_clip, self.warmup_steps, self.ema_decay = gradient_clip, warmup_steps, ema_decay
        self.lr_schedule = Constant() if lr_schedule is None else lr_schedule
        self.checkpoint_every, self.keep, self.resume = checkpoint_every, keep, resume
        self.log_every, self.sample_every, self.profile = log_every, sample_every, profile
        self.compile_sampling, self.resident_data = compile_sampling, resident_data

    def steps(self, data: DataSet) -> int | None:
        """The budget in steps, the smaller of `max_steps` and `max_epochs`; None where there is neither."""
        steps = [] if self.max_steps is None else [self.max_steps]
        if self.max_epochs is not None:
            steps.append(math.ceil(self.max_epochs * data.size("train") / self.batch_size))
        return min(steps, default=None)

    def share(self) -> int:
        """A process's images of a step. Raises UserError where its pieces cannot be of one size."""
        size = parallel.world().size
        if self.batch_size % (size * self.accumulate):
            raise UserError(
                f"trainer.batch_size={self.batch_size} does not divide by {size} processes x "
                f"trainer.accumulate={self.accumulate}. Choose a multiple of {size * self.accumulate}."
            )
        return self.batch_size // size

    def feed(self, data: DataSet, seed: int, device: torch.device, start: int = 0) -> Iterator[Batch]:
        """This process's batches from a step on, of images held on the device where `resident_data` says so.

        Raises UserError as `share` does, and for data that the device cannot hold.
        """
        here = parallel.world()
        source = data.train(self.share(), seed, here.rank, here.size)
        return (source.on(device) if self.resident_data else source).batches(start)

    def fit(
        self,
        model: Trainable,
        network: Callable[[nn.Module], Any],
        objective: Objective,
        autoencoder: Autoencoder,
        data: DataSet,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        tracker: Tracker,
        run_dir: Path,
        seed: int,
        config: dict[str, Any],
        choices: dict[str, str],
        visits: Sequence[Visit] = (),
        augment: Augment | None = None,
        alignment: Alignment | None = None,
    ) -> tuple[TrainState, History]:
        """Trains `model` in place and returns the final state and the trace.

        network  wraps the model (compiled or not) as what the objective calls
        config, choices  kept in every checkpoint
        visits   what is done with the state every so many images; its time is not counted
        augment, alignment  None is to do without
        Every process of a run calls it. Raises Stopped after a signal, UserError for a loss that is not
        finite.
        """
        here = parallel.world()
        self.share()  # a batch that cannot be shared is refused before anything is made
        last = self.steps(data)
        augment = NoAugmentation() if augment is None else augment
        alignment = NoAlignment() if alignment is None else alignment
        strategy = chosen(self.strategy)
        ema = averaged(model, self.ema_decay) if self.ema_decay else None
        strategy.prepare(model, ema)
        state = training_state(model, ema, objective, alignment, optimizer, strategy.whole)
        rates = [group["lr"] for group in state.optimizer.param_groups]
        device = next(model.parameters()).device
        with StopRequest() as stop:
            self._restore(state, strategy, run_dir)
            history = History(run_dir, state.step, writing=here.main)
            module = strategy.network
            forward = network(compiled(module, self.compile))  # type: ignore[arg-type]
            with parallel.main_first():  # which decodes the data into the cache
                feed = self.feed(data, seed, device, state.step)
            parallel.largest(0)  # no clock runs while another process is not ready
            pending: list[Step] = []
            saved, spent = state.step, 0.0
            stopped_by: signal.Signals | None = None

            def flush() -> None:
                """Brings the losses since the last one to the trace and the tracker."""
                rows, problem = finite_rows(pending)
                pending.clear()
                history.extend(rows)
                if problem:
                    path = checkpoint.path_of(run_dir, saved, strategy.suffix)
                    good = f"The last good checkpoint is {path}."
                    raise UserError(
                        f"{problem} {good if saved else 'No checkpoint was saved before it.'} "
                        "Lower optimizer.lr, raise trainer.warmup_steps, set attn.qk_norm=true or use "
                        "trainer.precision=fp32."
                    )
                tracker.log(progress.report(rows, state), state.step)

            def visit() -> None:
                """Calls what is due at this step, outside the time that counts."""
                nonlocal started, saved
                before = time.monotonic()
                then = state.images - self.batch_size
                due = [act for every, act in visits if every and state.images // every > then // every]
                if due and saved != state.step:  # it may take longer than a cluster gives
                    if pending:
                        flush()
                    if self._save(state, strategy, config, choices, run_dir, saved):
                        saved = state.step
                if due:
                    with (
                        stop.heeded(f"at step {saved}. The same command goes on from the newest checkpoint."),
                        memory.left_out(),
                    ):
                        for act in due:
                            act(state)
                model.train()
                started += time.monotonic() - before
                progress.leave_out(time.monotonic() - before)

            def ending() -> bool:
                """Whether to stop here, which all processes must answer alike."""
                nonlocal stopped_by, spent
                of_time = state.seconds / self.max_seconds if self.max_seconds is not None else 0.0
                of_steps = state.step / last if last is not None else 0.0
                own = max(of_time, of_steps) if here.main else 0.0  # clocks differ, the rate must not
                heaviest, spent = parallel.largest(weight(stop.number), own)
                stopped_by = SIGNALS[int(heaviest)]
                return spent >= 1 or stopped_by is not None

            def piece_of_step(piece: int) -> AbstractContextManager[None]:
                torch.manual_seed(mix("step", seed, state.step, here.rank * self.accumulate + piece))
                return strategy.accumulating(last=piece == self.accumulate - 1)

            memory = PeakMemory(device)
            with (
                Progress(state, last, self.max_seconds, memory, shown=here.main) as progress,
                Profile(run_dir, self.profile and here.main, device) as profile,
            ):
                started = time.monotonic() - state.seconds
                if state.step:
                    visit()  # a run that broke off may have saved the step and no more
                model.train()
                objective.train()
                while not ending():
                    warm = min(1.0, (state.step + 1) / max(1, self.warmup_steps))
                    factor = warm * self.lr_schedule(spent)
                    for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                    losses, norm = self.train_step(
                        state, forward, objective, autoencoder, next(feed), device, piece_of_step, augment
                    )
                    profile.step()
                    state.step += 1
                    state.images += self.batch_size
                    state.seconds = time.monotonic() - started
                    pending.append((state.step, rates[0] * factor, losses, norm))
                    saving = state.step % self.checkpoint_every == 0
                    if saving or len(pending) >= self.log_every:
                        flush()
                    if saving and self._save(state, strategy, config, choices, run_dir, saved):
                        saved = state.step
                    visit()
                if pending:
                    flush()
                state.memory_gib = memory.gib
            if saved != state.step:
                self._save(state, strategy, config, choices, run_dir, saved, ending=True)
            stopped_by = SIGNALS[int(parallel.largest(weight(stop.number))[0])]
            if stopped_by is not None:
                name = stopped_by.name
                saving = f"after step {state.step}; the state is saved in {run_dir}."
                raise Stopped(
                    f"Stopped by {name} {saving if state.step else 'before the first step.'} "
                    f"The same command with run_dir={run_dir} goes on from there.",
                    128 + stopped_by,
                )
        return state, history

    def train_step(
        self,
        state: TrainState,
        forward: Any,
        objective: Objective,
        autoencoder: Autoencoder,
        batch: Batch,
        device: torch.device,
        piece_of_step: Callable[[int], AbstractContextManager[None]],
        augment: Augment,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One optimizer step on this process's batch; returns its mean losses and the gradient norm.

        piece_of_step  gives what surrounds the passes of piece 0 to accumulate - 1
        """
        null_label, dropout = state.model.null_label, state.model.class_dropout
        means: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
        images = batch.image.chunk(self.accumulate)
        labels = batch.label.chunk(self.accumulate) if batch.label is not None else [None] * self.accumulate
        for piece, (image, label) in enumerate(zip(images, labels, strict=True)):
            with piece_of_step(piece):
                x, image, told = encoded(autoencoder, image.to(device, non_blocking=True), augment)
                if label is not None:
                    label = drop_labels(label.to(device, non_blocking=True), null_label, dropout)
                with autocast(device, self.precision):
                    network = functools.partial(forward, **told)
                    descended, losses = state.alignment(objective, network, x, label, image)
                (descended / self.accumulate).backward()
            for name, loss in losses.items():
                means[name] += loss.detach() / self.accumulate
        objective.learn(parallel.joined)
        for parameter in state.beside:  # few and small; the network's meet on their own
            if parameter.grad is not None:
                parameter.grad.copy_(parallel.mean(parameter.grad))
        limit = self.gradient_clip or float("inf")
        norm = total(nn.utils.clip_grad_norm_(state.model.parameters(), limit))
        state.optimizer.step()
        state.optimizer.zero_grad()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        return dict(means), norm

    def _restore(self, state: TrainState, strategy: DataParallel | FullyShard, run_dir: Path) -> None:
        if self.resume and (found := strategy.newest(run_dir)) is not None:
            path, stored = found
            try:
                state.load(stored, path)
            except UserError as error:
                raise UserError(
                    f"{error}\nThe run directory holds another run. Pass another run_dir, "
                    "or trainer.resume=false to start anew in it."
                ) from error
            log.info("Going on from step %d of %s.", state.step, path)
        parallel.from_main(lambda: checkpoint.set_aside(run_dir, after=state.step))

    def _save(
        self,
        state: TrainState,
        strategy: DataParallel | FullyShard,
        config: dict[str, Any],
        choices: dict[str, str],
        run_dir: Path,
        saved: int,
        ending: bool = False,
    ) -> bool:
        try:
            strategy.save(state.state_dict(config, choices), run_dir, state.step, self.keep)
            return True
        except OSError as error:
            text = (
                f"The checkpoint of step {state.step} could not be written to {run_dir}/checkpoints "
                f"({error}). The checkpoint of step {saved} is untouched."
            )
            if ending:
                raise UserError(
                    f"{text} Make room, then run the same command with run_dir={run_dir} to go on."
                ) from error
            log.error("%s Training goes on and tries again in %d steps.", text, self.checkpoint_every)
            return False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in bfloat16 over float32 weights, or plain float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")

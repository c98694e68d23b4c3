"""The training loop.

Notable: each piece of a step seeds torch from (seed, step, piece), so a resumed run needs no generator state
and repeats an uninterrupted one bit for bit, and two processes draw what one draws that accumulates two
pieces; losses stay on the device until they are logged; nothing is saved before the losses up to it are known
to be finite.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dit_exp import checkpoint, parallel
from dit_exp.ema import averaged
from dit_exp.errors import Stopped, UserError
from dit_exp.images import to_model_range
from dit_exp.learning import Objective, Tracker, Trainable
from dit_exp.seeds import mix
from dit_exp.trainer.history import History
from dit_exp.trainer.progress import Progress
from dit_exp.trainer.signals import SIGNALS, StopRequest, weight
from dit_exp.trainer.state import TrainState
from dit_exp.trainer.strategy import DataParallel, FullyShard, chosen, total
from dit_exp.types import Autoencoder, Batch, DataSet

log = logging.getLogger(__name__)

Visit = tuple[int, Callable[[TrainState], None]]
"""(every so many steps, what is then done with the state); 0 is never."""


def drop_labels(label: Tensor, null_label: int | None, probability: float) -> Tensor:
    """Replaces each label (B,) by the null label with a probability, image by image."""
    if null_label is None or probability == 0:
        return label
    dropped = torch.rand(len(label), device=label.device) < probability
    return torch.where(dropped, null_label, label)


class Trainer:
    """Trains until `max_steps` or `max_minutes`. conf/trainer/default.yaml says what each key means."""

    def __init__(
        self,
        max_steps: int | None = 100_000,
        max_minutes: float | None = None,
        batch_size: int = 64,
        accumulate: int = 1,
        precision: Literal["fp32", "bf16"] = "fp32",
        compile: bool = False,
        strategy: Literal["ddp", "fsdp"] = "ddp",
        gradient_clip: float = 1.0,
        warmup_steps: int = 500,
        ema_decay: float = 0.9999,
        checkpoint_every: int = 1000,
        keep: int = 2,
        resume: bool = True,
        log_every: int = 50,
        sample_every: int = 5000,
    ) -> None:
        if max_steps is None and max_minutes is None:
            raise ValueError("A run needs a budget. Set trainer.max_steps or trainer.max_minutes.")
        if batch_size < 1 or accumulate < 1 or batch_size % accumulate:
            raise ValueError(
                f"trainer.accumulate={accumulate} must divide trainer.batch_size={batch_size}, both from 1."
            )
        if min(checkpoint_every, log_every, keep) < 1:
            raise ValueError(
                "trainer.checkpoint_every, trainer.log_every and trainer.keep must be at least 1."
            )
        self.max_steps, self.max_seconds = max_steps, None if max_minutes is None else max_minutes * 60
        self.batch_size, self.accumulate = batch_size, accumulate
        self.precision, self.compile, self.strategy = precision, compile, strategy
        self.gradient_clip, self.warmup_steps, self.ema_decay = gradient_clip, warmup_steps, ema_decay
        self.checkpoint_every, self.keep, self.resume = checkpoint_every, keep, resume
        self.log_every, self.sample_every = log_every, sample_every

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
    ) -> tuple[TrainState, History]:
        """Trains `model` in place and returns the final state and the trace.

        network  wraps the model (compiled or not) as what the objective calls
        config, choices  kept in every checkpoint
        visits   what is done with the state every so many steps; its time is not counted
        Every process of a run calls it. Raises Stopped after a signal, UserError for a loss that is not
        finite.
        """
        here = parallel.world()
        if self.batch_size % (here.size * self.accumulate):
            raise UserError(
                f"trainer.batch_size={self.batch_size} does not divide by {here.size} processes x "
                f"trainer.accumulate={self.accumulate}. Choose a multiple of {here.size * self.accumulate}."
            )
        strategy = chosen(self.strategy)
        ema = averaged(model, self.ema_decay) if self.ema_decay else None
        strategy.prepare(model, ema)
        groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
        if learned := list(objective.parameters()):
            groups.append({"params": learned})
        state = TrainState(model, ema, objective, optimizer(groups), strategy.whole)
        rates = [group["lr"] for group in state.optimizer.param_groups]
        device = next(model.parameters()).device
        with StopRequest() as stop:
            self._restore(state, strategy, run_dir)
            history = History(run_dir, state.step, writing=here.main)
            module = strategy.network
            forward = network(torch.compile(module, dynamic=False) if self.compile else module)  # type: ignore[arg-type]
            with parallel.main_first():  # which decodes the data into the cache
                feed = data.train(self.batch_size // here.size, seed, here.rank, here.size).batches(
                    state.step
                )
            pending: list[tuple[int, float, Tensor, Tensor]] = []
            saved = state.step
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
                due = [action for every, action in visits if every and state.step % every == 0]
                if due and saved != state.step:  # it may take longer than a cluster gives
                    if pending:
                        flush()
                    if self._save(state, strategy, config, choices, run_dir, saved):
                        saved = state.step
                if due:
                    with stop.heeded(
                        f"at step {saved}. The same command goes on from the newest checkpoint."
                    ):
                        for action in due:
                            action(state)
                model.train()
                started += time.monotonic() - before
                progress.leave_out(time.monotonic() - before)

            def ending() -> bool:
                """Whether to stop here, which all processes must answer alike."""
                nonlocal stopped_by
                late = self.max_seconds is not None and state.seconds >= self.max_seconds
                heaviest, over = parallel.largest(weight(stop.number), float(here.main and late))
                stopped_by = SIGNALS[int(heaviest)]
                return bool(over) or stopped_by is not None or self._complete(state)

            def piece_of_step(piece: int) -> AbstractContextManager[None]:
                torch.manual_seed(mix("step", seed, state.step, here.rank * self.accumulate + piece))
                return strategy.accumulating(last=piece == self.accumulate - 1)

            with Progress(state, self.max_steps, self.max_seconds, shown=here.main) as progress:
                started = time.monotonic() - state.seconds
                if state.step:
                    visit()  # a run that broke off may have saved the step and no more
                model.train()
                objective.train()
                while not ending():
                    factor = min(1.0, (state.step + 1) / max(1, self.warmup_steps))
                    for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                    loss, norm = self.train_step(
                        state, forward, objective, autoencoder, next(feed), device, piece_of_step
                    )
                    state.step += 1
                    state.images += self.batch_size
                    state.seconds = time.monotonic() - started
                    pending.append((state.step, rates[0] * factor, loss, norm))
                    saving = state.step % self.checkpoint_every == 0
                    if saving or len(pending) >= self.log_every:
                        flush()
                    if saving and self._save(state, strategy, config, choices, run_dir, saved):
                        saved = state.step
                    visit()
                if pending:
                    flush()
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
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step on this process's batch; returns its mean loss and the gradient norm.

        piece_of_step  gives what surrounds the passes of piece 0 to accumulate - 1
        """
        null_label, dropout = state.model.null_label, state.model.class_dropout
        mean = torch.zeros((), device=device)
        images = batch.image.chunk(self.accumulate)
        labels = batch.label.chunk(self.accumulate) if batch.label is not None else [None] * self.accumulate
        for piece, (image, label) in enumerate(zip(images, labels, strict=True)):
            with piece_of_step(piece):
                x = autoencoder.encode(to_model_range(image.to(device, non_blocking=True)))
                if label is not None:
                    label = drop_labels(label.to(device, non_blocking=True), null_label, dropout)
                with autocast(device, self.precision):
                    loss = objective.loss(forward, x, label).mean() / self.accumulate
                loss.backward()
            mean += loss.detach()
        objective.learn(parallel.joined)
        for parameter in objective.parameters():  # few and small; the network's meet on their own
            if parameter.grad is not None:
                parameter.grad.copy_(parallel.mean(parameter.grad))
        limit = self.gradient_clip or float("inf")
        norm = total(nn.utils.clip_grad_norm_(state.model.parameters(), limit))
        state.optimizer.step()
        state.optimizer.zero_grad()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        return mean, norm

    def _complete(self, state: TrainState) -> bool:
        return self.max_steps is not None and state.step >= self.max_steps

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


def finite_rows(
    pending: list[tuple[int, float, Tensor, Tensor]],
) -> tuple[list[dict[str, Any]], str | None]:
    """Steps as rows of numbers, up to the first that is not finite, and a text about that one.

    A loss is the mean over the processes; the gradient they have met in has one norm.
    """
    losses = parallel.mean(torch.stack([loss for _, _, loss, _ in pending])).tolist()
    norms = torch.stack([norm for _, _, _, norm in pending]).tolist()
    rows: list[dict[str, Any]] = []
    for (step, rate, _, _), loss, norm in zip(pending, losses, norms, strict=True):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            text = (
                f"The loss is {loss} and the gradient norm {norm} at step {step} (learning rate {rate:.3g})."
            )
            return rows, text
        rows.append({"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm})
    return rows, None

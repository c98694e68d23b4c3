"""What a step of training and a step of sampling take, measured on the run's own parts.

`training` is the one place outside the loop that calls `Trainer.train_step`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from dit_exp import parallel
from dit_exp.device import compiled
from dit_exp.ema import averaged
from dit_exp.nn.narrow import drawing
from dit_exp.sampler.denoise import on_process_time
from dit_exp.sampler.reuse.network import Silent, following
from dit_exp.task.generate import decode, trajectory
from dit_exp.task.parts import Parts
from dit_exp.trainer.memory import PeakMemory
from dit_exp.trainer.state import TrainState, training_state
from dit_exp.trainer.strategy import chosen

GIB = 2**30
SAMPLING_STEPS = 3


@dataclass(frozen=True)
class Speed:
    """Of training, with its measured peak of memory and what of it is held between two steps.

    On a CPU the peak is the whole process's, libraries included, and None where it is not known.
    """

    images_per_second: float
    memory_gib: float | None
    held_gib: float


def training(parts: Parts, steps: int, warmup: int) -> Speed:
    """Takes `warmup` and then `steps` steps through the real training step. The model's weights change.

    Every process of a run calls it; the images are those of all of them. Raises UserError for a batch that
    they cannot share.
    """
    trainer, device = parts.trainer, parts.device
    trainer.share()  # a batch that cannot be shared is refused before anything is made
    ema = averaged(parts.model, trainer.ema_decay) if trainer.ema_decay else None
    strategy = chosen(trainer.strategy)
    strategy.prepare(parts.model, ema)
    state = training_state(
        parts.model, ema, parts.objective, parts.alignment, parts.optimizer, strategy.whole
    )
    forward = on_process_time(compiled(strategy.network, trainer.compile), parts.process)  # type: ignore[arg-type]
    with parallel.main_first():  # which decodes the data into the cache
        feed = trainer.feed(parts.data, parts.seed, device)
    parts.model.train()
    memory = PeakMemory(device)
    started = 0.0
    for step in range(warmup + steps):
        if step == warmup:
            started = _now(device)
        trainer.train_step(
            state,
            forward,
            parts.objective,
            parts.autoencoder,
            next(feed),
            device,
            lambda piece: strategy.accumulating(last=piece == trainer.accumulate - 1),
            parts.augment,
        )
    seconds = _now(device) - started
    return Speed(trainer.batch_size * steps / seconds, memory.gib, held(state) / GIB)


def held(state: TrainState) -> int:
    """Bytes of weights, their gradients, the optimizer's state and the average; activations come on top."""
    trained = [*(p for p in state.model.parameters() if p.requires_grad), *state.beside]
    inner = [v for values in state.optimizer.state.values() for v in values.values() if isinstance(v, Tensor)]
    average = [*state.ema.module.parameters(), *state.ema.module.buffers()] if state.ema else []
    return sum(
        tensor.nbytes
        for tensor in (
            *state.model.parameters(),
            *state.model.buffers(),
            *state.beside,
            *trained,
            *inner,
            *average,
        )
    )


def sampling(parts: Parts, batch_size: int) -> float:
    """Seconds that one image takes a process: the sampler's first steps on one batch, and what the others
    ask of the network beside them.

    Guidance is in it, by the images that it asks of in all steps, which are fewer where it is off for some;
    scoring the images is not. Weights that a training has sharded draw as they are.
    """
    from torch.distributed.tensor import DTensor

    whole = not any(isinstance(parameter, DTensor) for parameter in parts.model.parameters())
    model = drawing(parts.model, parts.trainer.precision, parts.device) if whole else parts.model
    network = following(model, None, parts.trainer.compile_sampling)
    _sample(parts, network, batch_size)  # warms up
    walking, decoding = _sample(parts, network, batch_size)
    some, whole = (_asked(parts, steps) for steps in (SAMPLING_STEPS, None))
    return (walking / some * whole + decoding) / batch_size


def _sample(parts: Parts, network: nn.Module, batch_size: int) -> tuple[float, float]:
    """Seconds of a batch's first steps, and of decoding it."""
    started = _now(parts.device)
    *_, x = _walk(parts, network, batch_size, SAMPLING_STEPS)
    walked = _now(parts.device)
    decode(parts, x)
    return walked - started, _now(parts.device) - walked


def _asked(parts: Parts, steps: int | None) -> int:
    """Of how many images the first steps ask the network, or all, for one image that is drawn."""
    silent = Silent(parts.latent_shape[0] * parts.objective.outputs)
    deque(_walk(parts, silent, 1, steps), maxlen=0)
    return sum(silent.batches)


def _walk(parts: Parts, network: nn.Module, batch_size: int, steps: int | None) -> Iterator[Tensor]:
    """The latents of a batch on the first steps of their way, or on all; the noise comes first."""
    return islice(trajectory(parts, network, range(batch_size)), None if steps is None else 1 + steps)


def _now(device: torch.device) -> float:
    """The time at which all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

"""Checkpoints: written whole or not at all, verified before use, loaded without running foreign code.

A run directory keeps checkpoints/step_00001000.pt, or the folder step_00001000.shards where each process
writes its share, each beside its .sha256 (`sha256sum -c` reads it).
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dit_exp import parallel, sharded
from dit_exp.errors import UserError

FILE, SHARDS = ".pt", ".shards"

AUTOENCODER = "autoencoder.pt"
"""What a run of task=autoencoder leaves: averaged weights with the scale of their latents."""

log = logging.getLogger(__name__)


class DamagedError(UserError):
    """A file that is no checkpoint, or not the one that was written."""


class _Hashed:
    """A file for writing that hashes what passes."""

    def __init__(self, file: Any) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def path_of(run_dir: Path, step: int, suffix: str = FILE) -> Path:
    """Where the checkpoint of a step lies."""
    return run_dir / "checkpoints" / f"step_{step:08d}{suffix}"


def save(state: dict[str, Any], path: Path, keep: int) -> None:
    """Writes a state atomically and removes all but the newest `keep` checkpoints beside it.

    Raises OSError (a full disk, say); nothing of the failed write stays, and older checkpoints are untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, digest = path.with_suffix(".part"), path.with_suffix(".sha256")
    try:
        with part.open("wb") as file:
            hashed = _Hashed(file)
            try:
                torch.save(state, hashed)  # pyright: ignore[reportArgumentType]
            except RuntimeError as error:  # torch wraps what the file raised
                raise _cause_of(error, path) from error
            file.flush()
            os.fsync(file.fileno())
        _publish(part, path, [f"{hashed.sha256.hexdigest()}  {path.name}"])
    except OSError:
        part.unlink(missing_ok=True)
        if not path.exists():
            digest.unlink(missing_ok=True)
        raise
    _keep_newest(path.parent, keep)


def save_shards(state: dict[str, Any], path: Path, keep: int) -> None:
    """The same for a state whose tensors are shards; every process calls it with the same path."""
    part = path.with_suffix(".part")

    def clear() -> None:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)

    def publish() -> None:
        _publish(part, path, sorted(line for lines in digests for line in lines))
        _keep_newest(path.parent, keep)

    parallel.from_main(clear)
    try:
        sharded.write(state, part)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    here = parallel.world()
    own = sorted(part.iterdir())[here.rank :: here.size]
    digests = parallel.gathered([f"{_sha256(file)}  {path.name}/{file.name}" for file in own])
    parallel.from_main(publish)


def _publish(part: Path, path: Path, digests: list[str]) -> None:
    """Gives what was written its name. The digest goes first: a checkpoint that is there always has it."""
    with path.with_suffix(".sha256").open("w") as file:
        file.write("\n".join(digests) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if path.is_dir():  # a step taken again: a folder is not replaced in one stroke
        shutil.rmtree(path)
    part.replace(path)


def _keep_newest(folder: Path, keep: int) -> None:
    for old in _by_step(folder)[:-keep]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
        old.with_suffix(".sha256").unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cause_of(error: BaseException, path: Path) -> OSError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return OSError(f"{path} could not be written: {error}")


def _by_step(folder: Path) -> list[Path]:
    """Checkpoints, oldest first by number (step_999 before step_1000)."""
    return sorted([*folder.glob(f"step_*{FILE}"), *folder.glob(f"step_*{SHARDS}")], key=_step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def load(path: Path, like: Callable[[str], Tensor] | None = None) -> dict[str, Any]:
    """Reads one checkpoint, to the CPU. Raises DamagedError where it is not one, or its checksum differs.

    like  the layout in which shards are wanted, see sharded.read
    """
    if path.with_suffix(".sha256").exists():
        parallel.from_main(lambda: _verify(path))
    try:
        if path.is_dir():
            state = sharded.read(path, like)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(
            f"checkpoint={path} is not a checkpoint of this program ({reason}). No code of it was run. "
            "Pass a run directory or a file from its checkpoints/ folder."
        ) from error
    if not isinstance(state, dict) or not {"config", "model", "step"} <= state.keys():
        raise DamagedError(
            f"checkpoint={path} holds no config, model and step, so it was not written by this program. "
            "Pass a run directory or a file from its checkpoints/ folder."
        )
    return state


def _verify(path: Path) -> None:
    """Raises DamagedError unless the files are those that were written, all of them."""
    digest = path.with_suffix(".sha256")
    lines = digest.read_text(errors="replace").splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    files = path.iterdir() if path.is_dir() else [path]
    found = {file.relative_to(path.parent).as_posix(): _sha256(file) for file in files}
    if wrong := [name for name in found | wanted if found.get(name) != wanted.get(name)]:
        raise DamagedError(
            f"{path.parent / wrong[0]} is damaged: its SHA-256 is not the one in {digest.name}."
        )


def newest(run_dir: Path, like: Callable[[str], Tensor] | None = None) -> tuple[Path, dict[str, Any]] | None:
    """A run directory's newest whole checkpoint, or None where it has none; damaged ones are reported.

    Raises UserError where there are checkpoints and none is whole.
    """
    paths = parallel.from_main(lambda: _by_step(run_dir / "checkpoints"))
    for path in reversed(paths):
        try:
            if not path.with_suffix(".sha256").exists():
                raise DamagedError(f"{path} has no .sha256 beside it.")
            return path, load(path, like)
        except DamagedError as error:
            log.warning("%s%s", error, " The checkpoint before it is used." if path != paths[0] else "")
    if paths:
        raise UserError(
            f"None of the {len(paths)} checkpoints in {run_dir}/checkpoints is whole. Restore one, "
            "pass another run_dir, or trainer.resume=false to start anew."
        )
    return None


def set_aside(run_dir: Path, after: int) -> None:
    """Renames the checkpoints of steps above `after`, which the run is about to take again, to *.aside."""
    for path in _by_step(run_dir / "checkpoints"):
        if _step(path) > after:
            path.with_suffix(".sha256").unlink(missing_ok=True)
            aside = path.with_suffix(".aside")
            if aside.is_dir():
                shutil.rmtree(aside)
            path.replace(aside)


def find(where: str) -> tuple[Path, dict[str, Any]]:
    """What `checkpoint=` names: a file, or a run directory's newest whole checkpoint."""
    path = Path(where).expanduser()
    if path.is_file() or path.suffix == SHARDS:
        return path, load(path)
    if not path.is_dir():
        raise UserError(f"checkpoint={where} does not exist. Pass a run directory or a checkpoint file.")
    if (found := newest(path)) is None:
        raise UserError(
            f"checkpoint={where} has no whole checkpoint in its checkpoints/ folder. Pass the directory of a "
            "run that has saved one."
        )
    return found


def autoencoder(where: str) -> tuple[Path, dict[str, Any]]:
    """What `autoencoder.checkpoint=` names: the run of a trained autoencoder, or the file that it has left.

    Raises UserError for anything else, as for a run that has not come to its end.
    """
    path = Path(where).expanduser()
    path = path / AUTOENCODER if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"autoencoder.checkpoint={where} holds no trained autoencoder: there is no file {path}. Pass the "
            "directory of a run of task=autoencoder that has come to its end; the same command ends one that "
            "was stopped."
        )
    stored = load(path)
    if path.name != AUTOENCODER or "checkpoint" not in stored["config"].get("autoencoder", {}):
        raise UserError(
            f"autoencoder.checkpoint={where} is no trained autoencoder. Pass the directory of a run of "
            f"task=autoencoder, or its {AUTOENCODER}; what stands in checkpoints/ has no measured scale."
        )
    return path, stored


def published(where: str) -> dict[str, Tensor]:
    """Weights that others published: a file of one dictionary of tensors, read without running its code."""
    path = Path(where).expanduser()
    if not path.is_file():
        raise UserError(f"model.checkpoint={where} is no file. Pass the path of the published weights.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"model.checkpoint={where} cannot be read ({reason}). No code of it was run. Pass a file that "
            "torch.save has written of a dictionary of tensors."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(
            f"model.checkpoint={where} holds more than a dictionary of tensors. Pass published weights; a "
            "run of this program is passed as checkpoint=RUN_DIR."
        )
    return weights


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Path | str) -> None:
    """Puts weights into a model. Raises UserError that names the keys and shapes that differ."""
    own = model.state_dict()
    lines = [f"only in the model: {key}" for key in own.keys() - weights.keys()]
    lines += [f"only in the file: {key}" for key in weights.keys() - own.keys()]
    lines += [
        f"{key}: {tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own.keys() & weights.keys()
        if own[key].shape != weights[key].shape
    ]
    if lines:
        shown = "\n  ".join(sorted(lines)[:8])
        more = f"\n  and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise UserError(f"{source} is of another architecture; {len(lines)} keys differ:\n  {shown}{more}")
    model.load_state_dict(weights)

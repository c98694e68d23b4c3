"""What is said of an exception: one message and an exit code.

0 is success, 1 a failure of the program or the machine, 2 a mistake that the user can mend.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from hydra.core.utils import JobReturn
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from dit_exp.errors import UserError

FULL_ERROR = "HYDRA_FULL_ERROR"
COMPILERS = ("torch._dynamo", "torch._inductor")
"""Modules of what torch raises while it compiles."""


def explain(error: Exception, groups: list[str]) -> tuple[str, int]:
    """The message and the exit code of an exception. `groups` are the config groups, for a nearest name."""
    causes = list(_chain(error))
    for cause in _chain(error, context=True):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f" ({cause.filename})" if cause.filename else ""
            return (
                f"{os.strerror(cause.errno)}{place}. Free some space or pass run_dir=DIR on another disk.",
                1,
            )
    for cause in causes:
        if isinstance(cause, UserError):
            return str(cause) + _node(causes), 2
    library = re.search(r"^ImportError: (.+\.so): (.+)$", str(error), re.MULTILINE)
    if library and any(type(cause).__module__.startswith(COMPILERS) for cause in causes):
        return (
            f"Compiled code in {library[1]} cannot be loaded: {library[2]}. A program that was killed while "
            "it compiled leaves such a file. Delete it and start again, or do not compile: "
            "trainer.compile=false trainer.compile_sampling=false.",
            1,
        )
    match error:
        case MissingConfigException():
            return _unknown_choice(error), 2
        case OverrideParseException():
            return _unreadable(error), 2
        case InstantiationException() if error.__cause__ is None:
            return str(error), 2
        case InstantiationException() if isinstance(error.__cause__, ValueError | TypeError):
            hint = f"\n{FULL_ERROR}=1 shows where it was raised."
            return str(error.__cause__) + _node(causes) + hint, 2
        case InstantiationException():
            return _internal(error), 1
        case ConfigCompositionException() if name := re.search(r"Could not override '([^']+)'", str(error)):
            return _unknown_key(error, name[1], groups), 2
        case HydraException():
            lines = [str(error), *(str(cause).partition("\n")[0] for cause in causes[1:])]
            return "\n".join(line for line in lines if line), 2
        case YAMLError():
            return f"A config file is not YAML: {error}", 2
    if not _job_ran(error):
        for cause in causes:
            if isinstance(cause, OSError):
                return _unwritable(cause), 2
        if isinstance(error, ValueError):  # of Hydra, on its flags and override types
            words = [word for word in sys.argv[1:] if word.partition("=")[0] in groups]
            return f"{error}" + (f" (in {' '.join(words)})" if words else ""), 2
    return _internal(error), 1


def _chain(error: BaseException | None, context: bool = False) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (error.__context__ if context else None)


def _node(causes: list[BaseException]) -> str:
    """The config node whose construction failed, innermost first, as a line of text."""
    for cause in reversed(causes):
        key = re.search(r"^full_key: (.+)$", str(cause), re.MULTILINE)
        if isinstance(cause, InstantiationException) and key:
            return f"\nRaised while building {key[1]}."
    return ""


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return str(error).partition("\n")[0]
    options = sorted(error.options or [])
    source = re.match(r"In '([^']+)'", str(error))
    place = f" (chosen in {source[1]}.yaml)" if source and source[1] != "config" else ""
    text = f"{group}={choice}: there is no such choice{place}."
    text += f" Choices of {group}: {', '.join(options)}." if options else f" {group} has no choices."
    close = difflib.get_close_matches(choice, options, 1)
    return text + (f" Did you mean {group}={close[0]}?" if close else "")


def _unknown_key(error: ConfigCompositionException, key: str, groups: list[str]) -> str:
    written = re.search(r"use \+(.+)$", str(error))
    override = written[1] if written else key
    if key in groups:
        return f"{override}: no {key} is chosen by default, so write +{override}."
    source = re.match(r"In '([^']+)'", str(error))
    place = f" (set in {source[1]}.yaml)" if source else ""
    parent = getattr(error.__cause__, "parent_node", None)
    config: Any = OmegaConf.to_container(parent._get_root(), resolve=False) if parent is not None else {}
    if not key.startswith("hydra"):
        config.pop("hydra", None)
    known = [*_names(config), *groups]
    close = _same_leaf(key, known) or difflib.get_close_matches(key, known, 1)
    if not close and "." not in key:
        leaves = {name.rpartition(".")[2] for name in known}
        close = [
            name for leaf in difflib.get_close_matches(key, leaves, 1) for name in _same_leaf(leaf, known)
        ]
    text = f"{override}: there is no key {key}{place}."
    if close:
        value = override.partition("=")[1:] if close[0] in groups and "." not in key else ()
        return f"{text} Did you mean {' or '.join(close[:3])}{''.join(value)}?"
    above = key.rpartition(".")[0]
    inside = OmegaConf.select(OmegaConf.create(config), above) if above else None
    if isinstance(inside, DictConfig):
        return f"{text} Keys of {above}: {', '.join(str(k) for k in inside if k != '_target_')}."
    return f"{text} --help lists the groups and their choices, --cfg job the keys."


def _same_leaf(key: str, names: list[str]) -> list[str]:
    return [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]


def _names(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")


def _unreadable(error: OverrideParseException) -> str:
    text = f"{error.override}: not readable as KEY=VALUE."
    if "=" not in error.override:
        return f"{text} Did you forget the value, or a quote around a value with spaces?"
    key, _, value = error.override.partition("=")
    reason = str(error).partition("\nSee https")[0]
    return f"{text} Quote a value with special characters twice, {key}=\"'{value}'\"\n{reason}"


def _unwritable(error: OSError) -> str:
    given = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("run_dir=")]
    name = f"run_dir={given[-1]}" if given else "The run directory"
    place = f" ({error.filename})" if error.filename else ""
    return f"{name} cannot be written: {error.strerror or error}{place}. Pass run_dir=DIR."


def _job_ran(error: Exception) -> bool:
    """Whether it comes from the application: Hydra hands on what a job raised by reading `return_value`."""
    code, frame = JobReturn.return_value.fget.__code__, error.__traceback__  # pyright: ignore
    while frame:
        if frame.tb_frame.f_code is code:
            return True
        frame = frame.tb_next
    return False


def _internal(error: Exception) -> str:
    import traceback

    trace = "".join(traceback.format_exception(error))
    return f"Internal error, {type(error).__name__}: {error}\nThe traceback is below.\n{trace}".rstrip()

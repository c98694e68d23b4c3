"""What a configuration takes over from what was trained before: a run's checkpoint, a first stage."""

from __future__ import annotations

import copy
from typing import Any

from dit_exp import checkpoint
from dit_exp.errors import UserError

FIXED = (
    "model", "attn", "cond", "process", "timesteps", "weighting", "objective", "alignment", "autoencoder",
    "augment",
)  # fmt: skip
"""What a trained model is made of; a checkpoint brings it and nothing overrides it."""

MOVABLE = ("autoencoder.checkpoint", "autoencoder.source")
"""Where weights lie, which may be moved; whether they are the same is checked by their identity."""

ENCODED_BY = "autoencoder_identity"
"""The key of a run's configuration for the identity of its autoencoder."""


def with_checkpoint(
    config: dict[str, Any], choices: dict[str, str], overrides: list[str], source: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration and choices of a checkpoint, changed where the command line says so.

    A group that the command line chooses is taken from it; of another one single keys are changed. The
    tracker is the command line's. The groups in FIXED stay: raises UserError that lists what disagrees.
    """
    given = [override.lstrip("+").split("=", 1)[0] for override in overrides]
    if "experiment" in given:
        raise UserError("checkpoint= brings its own experiment. Leave experiment= out.")
    stored, stored_choices = source["config"], source["choices"]
    merged, kept, wrong = dict(config), dict(choices), []
    for group in stored_choices.keys() & config.keys() - {"task", "tracker"}:
        if group in given and group not in FIXED:
            continue
        merged[group], kept[group] = copy.deepcopy(stored[group]), stored_choices[group]
        for key in sorted(given):  # a part that is chosen inside a group before that part's keys
            if key == group:
                before, now = stored_choices[group], choices[group]
            elif key.startswith(f"{group}."):
                before, now = _select(stored, key), _select(config, key)
            else:
                continue
            if group not in FIXED or key in MOVABLE:
                *path, last = key.split(".")
                _select(merged, ".".join(path))[last] = now
            elif before != now:
                wrong.append(f"{key}={now} on the command line, {before} in the checkpoint")
    for name in choices.keys() - config.keys():  # chosen inside a group, as sampler.reuse
        group, _, key = name.partition(".")
        if not {name, group} & set(given):
            kept[name] = stored_choices.get(name, choices[name])
            merged[group].setdefault(key, config[group][key])  # runs older than the choice
    for node in merged.values():  # where things lie on this machine, not on the one that trained
        if isinstance(node, dict):
            node |= {key: config[key] for key in ("cache", "device") if key in node and key not in given}
    if wrong:
        raise UserError(
            f"checkpoint={config['checkpoint']} was trained otherwise:\n  " + "\n  ".join(wrong) + "\n"
            f"Leave these out: {', '.join(FIXED)} come from the checkpoint."
        )
    return merged, kept


def _select(config: dict[str, Any], key: str) -> Any:
    """The value at a dotted key, or None."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def trained_autoencoder(
    config: dict[str, Any], choices: dict[str, str], overrides: list[str]
) -> tuple[dict[str, Any], str]:
    """The configuration and the choice of the autoencoder that autoencoder.checkpoint names; the given ones
    where it names none.

    Raises UserError that lists what the command line says otherwise.
    """
    ours = config["autoencoder"]
    where = ours.get("checkpoint")
    if where is None:
        return ours, choices["autoencoder"]
    _, stored = checkpoint.autoencoder(where)
    theirs, name = stored["config"]["autoencoder"], stored["choices"]["autoencoder"]
    given = {override.lstrip("+").split("=", 1)[0] for override in overrides}
    wrong = [
        f"{key}: {_select(config, key)} on the command line, {theirs.get(key.partition('.')[2])} there"
        for key in sorted(given - set(MOVABLE))
        if key.startswith("autoencoder.") and theirs.get(key.partition(".")[2]) != _select(config, key)
    ]
    if "autoencoder" in given and choices["autoencoder"] != name:
        wrong.append(f"autoencoder: {choices['autoencoder']} on the command line, {name} there")
    if wrong:
        raise UserError(
            f"autoencoder.checkpoint={where} was trained otherwise:\n  " + "\n  ".join(wrong) + "\n"
            "Leave these out: a trained autoencoder brings its own settings."
        )
    return {**theirs, "checkpoint": where}, name

"""Which measurements may share a column: those by one protocol.

A sweep of guidance scales compares scores whose guidance differs, which is its question. So a difference that
the sweep itself makes does not part two scores where it lies in how images are drawn; how they are judged
(count, reference, network) always does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BESIDE = ("seed", "step", "warning", "left_out")
"""Keys of a protocol that do not part scores: the repetition, the cost, and what follows from other keys."""

DRAWN = {
    "sampler": ("sampler",),
    "grid": ("grid",),
    "guidance": ("guidance",),
    "process": ("process",),
    "objective": ("objective",),
    "nfe": ("sampler", "guidance"),
    "encoder_nfe": ("sampler", "guidance"),
    "precision": ("trainer.precision",),
    "ema_decay": ("trainer.ema_decay",),
    "batch_size": ("task.batch_size",),
}
"""How images are drawn: keys of a protocol, and the keys of the configuration that set them."""

LOSS_GROUPS = ("objective", "process", "timesteps", "weighting", "data", "autoencoder")
"""What a loss depends on besides the model. Another prediction's loss is another quantity."""

OF_TRAINING = {"timesteps", "weighting"}
"""What of it a validation loss does not depend on: that is the plain error at times that never change."""

SCORES = "scores"
"""All scores of a cell are measured by one protocol; each loss by its own."""

PLACES = ("root", "cache", "repo", "device")


@dataclass(frozen=True)
class Variant:
    """A protocol that some cells share. `letter` names it where a measure has several, else it is empty."""

    letter: str
    protocol: dict[str, Any]
    members: list[int]


def of_scores(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol of metrics.json by dotted keys, without what parts no scores."""
    return {key: value for key, value in flat(protocol) if key.partition(".")[0] not in BESIDE}


def of_loss(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """What a loss was measured by, from the run's configuration."""
    protocol = {group: config[group] for group in LOSS_GROUPS if group in config}
    if name == "validation_loss":
        protocol["validation_images"] = (config.get("task") or {}).get("validation_images")
    without = OF_TRAINING if name == "validation_loss" else set()
    return {
        key: value
        for key, value in flat(protocol)
        if key.rpartition(".")[2] not in PLACES and not without & set(key.split("."))
    }


def variants(protocols: Sequence[dict[str, Any]], factors: Iterable[str]) -> list[Variant]:
    """The protocols that differ, that of most cells first; `members` are positions in `protocols`."""
    factors = list(factors)
    found: dict[str, list[int]] = {}
    for i, protocol in enumerate(protocols):
        kept = {key: value for key, value in protocol.items() if not _varied(key, factors)}
        found.setdefault(json.dumps(kept, sort_keys=True), []).append(i)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    letters = [_letter(i) for i in range(len(ordered))] if len(ordered) > 1 else [""]
    return [
        Variant(letter, json.loads(kept), members)
        for letter, (kept, members) in zip(letters, ordered, strict=False)
    ]


def differing(found: Sequence[Variant]) -> dict[str, list[Any]]:
    """The keys in which variants differ, and the value of each variant; None where it has no such key."""
    keys = dict.fromkeys(key for variant in found for key in variant.protocol)
    values = {key: [variant.protocol.get(key) for variant in found] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def flat(node: dict[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value); a class's path stands under the key of its group."""
    for key, value in node.items():
        inner = name if key == "_target_" else f"{name}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from flat(value, inner)
        elif key != "_partial_":
            yield inner, value


def _varied(key: str, factors: list[str]) -> bool:
    """Whether the sweep itself sets this key of how images are drawn."""
    top, _, _ = key.partition(".")
    if top not in DRAWN:
        return False
    if "experiment" in factors:  # which chooses all of them
        return True
    if top in ("nfe", "encoder_nfe"):
        return any(factor.partition(".")[0] in DRAWN[top] for factor in factors)
    sets = [key, *DRAWN[top]] if "." in key else DRAWN[top]
    return any(factor in sets or key.startswith(f"{factor}.") for factor in factors)


def _letter(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else f"{_letter(i // 26 - 1)}{_letter(i % 26)}"

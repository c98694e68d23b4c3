"""What explains a run afterwards: its configuration, revision and scores, in its folder and its tracker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dit_exp import parallel
from dit_exp.errors import Stopped
from dit_exp.revision import revision
from dit_exp.sweep.folder import SWEEP_FILE, write_json
from dit_exp.task import directory
from dit_exp.task.parts import Stage

METRICS_FILE = "metrics.json"


def flatten(config: dict[str, Any], choices: dict[str, str]) -> dict[str, Any]:
    """Parameters for a tracker: `attn`: gqa, `attn.kv_heads`: 2. What a model was handed is not repeated.

    Nor is the run directory, which no two runs share and which is a tag.
    """
    flat: dict[str, Any] = dict(choices)
    for key, value in config.items():
        if not isinstance(value, dict):
            flat[key] = value
            continue
        for name, inner in value.items():
            if f"{key}.{name}" in choices:  # a part that is chosen inside the group
                flat |= {f"{key}.{name}.{k}": v for k, v in inner.items() if not k.startswith("_")}
            elif not name.startswith("_") and not isinstance(inner, dict):
                flat[f"{key}.{name}"] = inner
    return {key: value for key, value in flat.items() if value is not None and key != "run_dir"}


@contextmanager
def recorded(parts: Stage) -> Iterator[None]:
    """One task in its run directory: guarded, explained, tracked, and ended with the right status."""
    with directory.locked(parts.run_dir), directory.terminable(parts.run_dir):
        directory.check(parts)
        _explain(parts)
        try:
            yield
        except Stopped as stopped:
            parts.tracker.finish("SCHEDULED" if stopped.preempted else "KILLED")
            raise
        except KeyboardInterrupt:
            parts.tracker.finish("KILLED")
            raise
        except BaseException:
            parts.tracker.finish("FAILED")
            raise
        parts.tracker.finish()


def _explain(parts: Stage) -> None:
    """Writes config.yaml, overrides.yaml and revision.json into the run directory and starts the tracker."""
    if not parallel.world().main:
        return
    import yaml

    code = revision()
    (parts.run_dir / "config.yaml").write_text(yaml.safe_dump(parts.config, sort_keys=False))
    (parts.run_dir / "overrides.yaml").write_text(yaml.safe_dump(parts.overrides))
    (parts.run_dir / "revision.json").write_text(json.dumps(code, indent=2) + "\n")
    named = [o for o in parts.overrides if not o.startswith(("run_dir", "tracker", "hydra"))]
    name = " ".join(named) or parts.run_dir.name
    tags = {**code, "run_dir": str(parts.run_dir)}
    sweep = parts.run_dir.parent if (parts.run_dir.parent / SWEEP_FILE).exists() else None
    if sweep is not None:
        tags["cell"] = parts.run_dir.name
    parts.tracker.start(parts.run_dir, flatten(parts.config, parts.choices), tags, name[:200], sweep)
    parts.tracker.artifact(parts.run_dir / "config.yaml")


def write_metrics(parts: Stage, values: dict[str, Any]) -> None:
    """Writes metrics.json and hands it to the tracker; in the main process alone."""
    if not parallel.world().main:
        return
    path = parts.run_dir / METRICS_FILE
    write_json(path, values)
    parts.tracker.artifact(path)

"""What explains a run afterwards: its configuration, revision and scores, in its folder and its tracker."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dit_exp import parallel
from dit_exp.errors import Stopped
from dit_exp.task import directory
from dit_exp.task.parts import Parts

METRICS_FILE = "metrics.json"


def revision() -> dict[str, str]:
    """The git commit of the code and whether the tree had changes; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(git("status", "--porcelain")))}
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}


def flatten(config: dict[str, Any], choices: dict[str, str]) -> dict[str, Any]:
    """Parameters for a tracker: `attn`: gqa, `attn.kv_heads`: 2. What a model was handed is not repeated."""
    flat: dict[str, Any] = dict(choices)
    for key, value in config.items():
        if not isinstance(value, dict):
            flat[key] = value
            continue
        for name, inner in value.items():
            if not name.startswith("_") and not isinstance(inner, dict):
                flat[f"{key}.{name}"] = inner
    return {key: value for key, value in flat.items() if value is not None}


@contextmanager
def recorded(parts: Parts) -> Iterator[None]:
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


def _explain(parts: Parts) -> None:
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
    parts.tracker.start(parts.run_dir, flatten(parts.config, parts.choices), tags, name[:200])
    parts.tracker.artifact(parts.run_dir / "config.yaml")


def write_metrics(parts: Parts, values: dict[str, Any]) -> None:
    """Writes metrics.json and hands it to the tracker; in the main process alone."""
    if not parallel.world().main:
        return
    path = parts.run_dir / METRICS_FILE
    path.write_text(json.dumps(values, indent=2) + "\n")
    parts.tracker.artifact(path)

"""What a score is called where several counts may meet."""

from __future__ import annotations

from typing import Any


def with_counts(scores: dict[str, float], protocol: dict[str, Any]) -> dict[str, float]:
    """Scores by a name that holds the count, fid_50k, so that two counts never share a column."""
    n = protocol.get("n", 0)
    count = f"{n // 1000}k" if n and n % 1000 == 0 else str(n)
    return {f"{name}_{count}": value for name, value in scores.items()}

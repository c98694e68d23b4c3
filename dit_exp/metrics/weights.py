"""Files of feature networks: found or downloaded, and verified before anything is loaded from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from dit_exp.errors import UserError


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def located(weights: str | None, url: str) -> Path:
    """The file `metrics.weights` names, or without one torch's hub cache, downloaded there from `url` once.

    Raises UserError where the file is missing or cannot be downloaded.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"metrics.weights={weights} is not a file. Pass the path of {Path(url).name}.")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:  # urllib's URLError is one
            raise UserError(
                f"The feature network could not be downloaded from {url} to {path}: {error}. "
                "Pass metrics.weights=PATH of that file, or use metrics=offline, which needs no download."
            ) from error
    return path


def verified(path: Path, expected: str, names: str) -> str:
    """The SHA-256 of `path`, which must be `expected`; `names` are the scores that depend on it.

    Raises UserError otherwise.
    """
    found = sha256(path)
    if found != expected:
        raise UserError(
            f"{path} is not the published feature network: its SHA-256 is {found}, expected {expected}. "
            f"The scores {names} may come from that file alone. "
            "Pass metrics.weights=PATH of the published file, or use metrics=offline."
        )
    return found

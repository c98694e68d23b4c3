"""Files of networks that others trained: found or downloaded, and verified before anything is loaded.

`group` is the configuration's group that a message speaks of, `offline` its choice that needs no download.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from dit_exp.errors import UserError


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def located(weights: str | None, url: str, group: str, offline: str) -> Path:
    """The file that the group's key `weights` names, or without one torch's hub cache, where it is downloaded
    from `url` once.

    Raises UserError where the file is missing or cannot be downloaded.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"{group}.weights={weights} is not a file. Pass the path of {Path(url).name}.")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:  # urllib's URLError is one
            raise UserError(
                f"The feature network could not be downloaded from {url} to {path}: {error}. "
                f"Pass {group}.weights=PATH of that file, or use {group}={offline}, which needs no download."
            ) from error
    return path


def verified(path: Path, expected: str, what: str, group: str, offline: str) -> str:
    """The SHA-256 of `path`, which must be `expected`; `what` depends on it.

    Raises UserError otherwise.
    """
    found = sha256(path)
    if found != expected:
        raise UserError(
            f"{path} is not the published feature network: its SHA-256 is {found}, expected {expected}. "
            f"{what} may come from that file alone. "
            f"Pass {group}.weights=PATH of the published file, or use {group}={offline}."
        )
    return found

"""Which device a run computes on."""

from __future__ import annotations

import torch

from dit_exp.errors import UserError


def resolve_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one. Raises UserError for what torch does not know or has not here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device} is no torch device. Pass auto, cpu, cuda or cuda:N.") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={device}, but torch sees no CUDA device. Pass device=auto.")
    return resolved

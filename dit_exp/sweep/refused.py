"""Which runs of a sweep cannot be begun, said before any of them is."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from dit_exp.check import preflight
from dit_exp.errors import UserError


def refuse(overrides: Sequence[Sequence[str]], configs: Sequence[DictConfig]) -> None:
    """Raises one UserError that names the runs whose configuration does not pass the preflight, and why.

    overrides  of each run, by which it is named
    configs    as Hydra composes them; its own node, which no run is handed, is taken off
    """
    runs: dict[str, list[str]] = {}
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    hydra = HydraConfig.instance()
    before = hydra.cfg
    for words, config in zip(overrides, configs, strict=True):
        if "hydra" in config:
            hydra.set_config(config)  # values may be interpolated from it
            with open_dict(config):
                del config["hydra"]
        try:
            preflight(config)
        except UserError as error:
            own = " ".join(w for w in words if w not in common and not w.startswith(("hydra.", "hydra/")))
            runs.setdefault(str(error), []).append(own)
    hydra.cfg = before
    if not runs:
        return
    text = f"{sum(map(len, runs.values()))} of {len(configs)} runs cannot be begun, so none is:"
    for error, alike in runs.items():
        more = f", and {len(alike) - 1} more" if len(alike) > 1 else ""
        text += f"\n  {alike[0]}{more}\n" + "\n".join(f"    {line}" for line in error.splitlines())
    raise UserError(text)

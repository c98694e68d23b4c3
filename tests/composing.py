"""Composes the project's configuration as run.py does."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

CONF = Path(__file__).resolve().parents[1] / "conf"


def composed(overrides: list[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of a command line, without Hydra's own node, and the choice in each group."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides, return_hydra_config=True)
    made = cfg.hydra.runtime.choices.items()
    choices = {k: v for k, v in made if "/" not in k and v and OmegaConf.select(cfg, k) is not None}
    with open_dict(cfg):
        del cfg["hydra"]
        cfg.run_dir = "runs/test"
    return cfg, choices

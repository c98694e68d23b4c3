"""Tiny autoencoders, and what task=cache is handed, without a model."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from composing import composed
from omegaconf import OmegaConf
from torch import Tensor, nn

from dit_exp.build import sources
from dit_exp.task.parts import Encoding
from dit_exp.tracker.none import NoTracker


class Halves(nn.Module):
    """Latents of half the height and width, doubled; `delay` seconds an image make it slow.

    checkpoint  a key of autoencoder=identity, whose place it takes
    """

    bounds = None
    stochastic = False

    def __init__(self, gain: float = 2.0, delay: float = 0.0, checkpoint: None = None) -> None:
        super().__init__()
        self.gain, self.delay = nn.Parameter(torch.tensor(float(gain))), delay
        self.decoded: list[int] = []

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, rows, columns = image_shape
        return channels, rows // 2, columns // 2

    def identity(self) -> str:
        return f"halves {self.gain.item()}"

    def statistics(self, image: Tensor) -> Tensor:
        time.sleep(self.delay * len(image))
        return nn.functional.avg_pool2d(image, 2)

    def latent(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        return self.gain * statistics

    def encode(self, image: Tensor) -> Tensor:
        return self.latent(self.statistics(image), None)

    def decode(self, latent: Tensor) -> Tensor:
        self.decoded.append(len(latent))
        return nn.functional.interpolate(latent / self.gain, scale_factor=2.0)


class Blurred(Halves):
    """Halves with a standard deviation of 0.25 around its latents."""

    stochastic = True

    def identity(self) -> str:
        return f"blurred {self.gain.item()}"

    def statistics(self, image: Tensor) -> Tensor:
        mean = super().statistics(image)
        return torch.cat([mean, torch.full_like(mean, 0.25)], dim=1)

    def latent(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        mean, std = statistics.chunk(2, dim=1)
        return self.gain * (mean if noise is None else mean + std * noise)


SMALL = ["data=digits", "data.image_size=8"]


def using(name: str, *keys: str) -> list[str]:
    """The words that choose a tiny autoencoder."""
    return [f"autoencoder._target_=encoding.{name}", *(f"+autoencoder.{key}" for key in keys)]


def encoding(run_dir: Path, *overrides: str, of: list[str] = SMALL) -> Encoding:
    run_dir.mkdir(exist_ok=True, parents=True)
    config, choices = composed(["task=cache", "task.path=unused", *of, *overrides])
    plain = OmegaConf.to_container(config, resolve=True)
    device = torch.device("cpu")
    data, autoencoder = sources(plain, choices, [], device)  # type: ignore[arg-type]
    return Encoding(plain, choices, [], run_dir, NoTracker(), device, data, autoencoder)  # type: ignore[arg-type]

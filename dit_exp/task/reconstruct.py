"""What an autoencoder gives back of held-out images: scores and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dit_exp import parallel
from dit_exp.data import spaced
from dit_exp.data.decoded import decode_once
from dit_exp.images import save_grid, to_model_range, to_uint8
from dit_exp.metrics.names import with_counts
from dit_exp.metrics.pixels import psnr, ssim
from dit_exp.task.curve import CURVE_FILE
from dit_exp.task.parts import Stage
from dit_exp.trainer.history import read_rows, write_rows
from dit_exp.trainer.state import TrainState

COLUMNS, ROWS = 10, 3


@torch.no_grad()
def reconstructed(autoencoder: Any, images: Tensor, device: torch.device) -> Tensor:
    """uint8 (B, 3, H, W) -> uint8, through the latents' mean where there is a distribution of them."""
    statistics = autoencoder.statistics(to_model_range(images.to(device)))
    return to_uint8(autoencoder.decode(autoencoder.latent(statistics, None))).cpu()


def draw_reconstructions(stage: Stage, autoencoder: nn.Module, path: Path) -> None:
    """Writes held-out images in rows of ten, each row above its reconstructions."""
    images = torch.cat(list(stage.data.images(stage.data.held_out, ROWS * COLUMNS)))
    made = reconstructed(autoencoder.eval(), images, stage.device)
    pairs = zip(images.split(COLUMNS), made.split(COLUMNS), strict=True)
    save_grid(torch.cat([row for pair in pairs for row in pair]), path, COLUMNS)


class Fidelity:
    """Scores of reconstructions of `count` held-out images, evenly spaced, a row in curve.jsonl each time.

    The distances' reference are those very images, so that they are 0 for an autoencoder without loss; their
    names begin with r: rfid, rfd_efficientnet_lite0. Every process calls `measure` and takes its share of the
    pieces of `batch_size`.
    """

    def __init__(self, stage: Stage, count: int, batch_size: int) -> None:
        self.stage, self.count, self.batch_size = stage, count, batch_size
        self.path = stage.run_dir / CURVE_FILE
        self.newest: tuple[dict[str, Any], dict[str, Any]] | None = None

    def prepare(self) -> None:
        """Fails early, as the metrics do."""
        decode_once(self.stage.data, self.stage.data.held_out)
        if self.stage.metrics.num_samples:
            self.stage.metrics.prepare(self.stage.data, self.stage.data.held_out, self.count)

    def measure(self, state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
        """The row and the protocol of a state; once measured, as it was."""
        if self.newest and self.newest[0]["step"] == state.step:
            return self.newest
        stage = self.stage
        scores, protocol = self.scores(state.weights)
        row = {
            "step": state.step,
            "images": state.images,
            "minutes": state.seconds / 60,
            "validation_loss": None,
            "n": self.count,
            "scores": scores,
        }
        if parallel.world().main:
            write_rows([*(r for r in read_rows(self.path) if r["step"] < state.step), row], self.path)
        stage.tracker.log(with_counts(scores, protocol), state.step)
        self.newest = (
            row,
            {
                **protocol,
                "data": stage.choices["data"],
                "split": stage.data.held_out,
                "order": "evenly spaced",
                "step": state.step,
                "ema_decay": stage.trainer.ema_decay,
            },
        )
        return self.newest

    def scores(self, autoencoder: nn.Module) -> tuple[dict[str, float], dict[str, Any]]:
        """({name: value}, protocol): the distances, then psnr in dB and ssim, means over the images."""
        stage, here, metrics = self.stage, parallel.world(), self.stage.metrics
        autoencoder.eval()
        near: dict[int, list[tuple[float, float]]] = {}
        pieces = spaced.images(stage.data, stage.data.held_out, self.count, self.batch_size)
        for number, piece in enumerate(pieces):
            if number % here.size == here.rank:
                made, start = reconstructed(autoencoder, piece, stage.device), number * self.batch_size
                near[start] = list(zip(psnr(piece, made).tolist(), ssim(piece, made).tolist(), strict=True))
                if metrics.num_samples:
                    metrics.update(made, start)
        found, protocol = metrics.compute() if metrics.num_samples else ({}, {})
        whole = {at: pairs for share in parallel.gathered(near) for at, pairs in share.items()}
        pairs = [pair for at in sorted(whole) for pair in whole[at]]
        means = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
        distances = {f"r{name}": value for name, value in found.items()}
        return distances | {"psnr": means[0], "ssim": means[1]}, {"n": self.count, **protocol}

"""Guidance by a weaker version of the same model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dit_exp.guidance.extrapolation import Extrapolation
from dit_exp.types.diffusion import Denoised, LabelDenoiser


class AutoGuidance(Extrapolation):
    """weak + w (strong - weak), for the same labels, or for none in both.

    checkpoint  the weaker network: smaller, or trained for less. In the configuration its run directory or
                file, which build.py loads
    Source: Karras et al. 2024, arXiv:2406.02507. Raises ValueError for a classifier.
    """

    def __init__(
        self,
        null_label: int | None,
        checkpoint: LabelDenoiser,
        scale: float = 2.0,
        channels: int | str | Sequence[int] = "all",
        skip: bool = True,
    ) -> None:
        """Every guidance is told the model's null label; this one has no use for it."""
        super().__init__(scale, channels, skip)
        if checkpoint.classifies:
            raise ValueError(
                "guidance.checkpoint holds a classifier, and guidance=autoguidance needs a weaker version of "
                "the model. Pass a run of task=train, or use guidance=classifier."
            )
        self.weak = checkpoint

    def answers(
        self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None
    ) -> tuple[Denoised, Denoised]:
        return denoise(x, t, label), self.weak(x, t, label)

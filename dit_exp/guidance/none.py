"""No guidance: the network's own answer for the label."""

from __future__ import annotations

from torch import Tensor

from dit_exp.types.diffusion import Denoised, LabelDenoiser


class NoGuidance:
    """(denoise, x_t, t, label) -> what the network says."""

    def __init__(self, null_label: int | None = None) -> None:
        """Every guidance is told the model's null label; this one has no use for it."""

    def begin(self) -> NoGuidance:
        return self

    def __call__(self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised:
        return denoise(x, t, label)

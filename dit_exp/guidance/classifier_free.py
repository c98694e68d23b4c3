"""What classifier-free guidances share: the answer for the label against the one for no label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dit_exp.guidance.extrapolation import Extrapolation
from dit_exp.types.diffusion import Denoised, LabelDenoiser


class ClassifierFree(Extrapolation):
    """null + w (labelled - null), both from one batch of twice the size, the labelled half first.

    Source: Ho & Salimans 2022, arXiv:2207.12598. Raises ValueError for a model that has no null label.
    """

    def __init__(
        self,
        null_label: int | None,
        scale: float = 1.5,
        channels: int | str | Sequence[int] = "all",
        skip: bool = True,
    ) -> None:
        super().__init__(scale, channels, skip)
        if null_label is None:
            raise ValueError(
                "Classifier-free guidance needs a model with a null label, and this one has none (it was "
                "built with model.class_dropout=0 or on data without classes). Use guidance=none, or train "
                "with model.class_dropout=0.1."
            )
        self.null_label = null_label

    def answers(
        self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None
    ) -> tuple[Denoised, Denoised]:
        assert label is not None
        both = torch.cat([label, torch.full_like(label, self.null_label)])
        said = denoise(torch.cat([x, x]), torch.cat([t, t]), both)
        labelled, null = zip(*(v.chunk(2) if v is not None else (None, None) for v in said), strict=True)
        return Denoised(*labelled), Denoised(*null)

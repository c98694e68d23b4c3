"""Representation alignment: early tokens of a network in training resemble a frozen teacher's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from dit_exp.errors import UserError
from dit_exp.objective.prediction import Prediction
from dit_exp.types.network import Model
from dit_exp.types.training import Alignment, Teacher


class RepresentationAlignment(Alignment):
    """Adds `weight` times the negative cosine similarity of projected tokens and the teacher's features.

    The tokens are the network's own after `depth` blocks on x_t; the teacher sees the clean image, as it was
    cropped, flipped and augmented for the network, and its map of features is interpolated to the tokens'
    grid. The projector is trained with the network and needed in training alone; a checkpoint has it, and of
    the teacher its name and the SHA-256 of its weights.
    depth   None for the model's own `encoder_depth`
    width   of the projector's two inner layers
    Source: Yu et al. 2024, arXiv:2410.06940. Raises ValueError for a model that cannot be split after so many
    blocks, and for images that are not RGB.
    """

    def __init__(
        self,
        model: Model,
        channels: int,
        teacher: Teacher,
        weight: float = 0.5,
        depth: int | None = None,
        width: int = 2048,
    ) -> None:
        super().__init__()
        if not model.deepest:
            raise ValueError(
                f"The blocks of {type(model).__name__} cannot be run apart, so it has no tokens to align. "
                "Use alignment=none, or a model of one stack, such as model=ddt_b, dit_b or uvit_s."
            )
        self.depth = model.encoder_depth if depth is None else depth
        if not 1 <= self.depth <= model.deepest:
            raise ValueError(
                f"alignment.depth={depth} must be 1 to {model.deepest}, the blocks of this model that can be "
                "run apart."
            )
        if channels != 3:
            raise ValueError(
                f"The data has {channels} channel(s), and teacher={teacher.name} takes RGB images. Use "
                "alignment=none, or RGB data."
            )
        if width < 1:
            raise ValueError(f"alignment.width={width} must be at least 1.")
        self.weight, self.teacher = weight, teacher
        self.source = {"teacher": teacher.name, "sha256": teacher.sha256}
        teacher.network.to(next(model.parameters()).device)  # no child of this module, so not in its state
        self.projector = nn.Sequential(
            nn.Linear(model.width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, teacher.dims),
        )

    def forward(
        self,
        objective: Prediction,
        network: Callable[..., Any],
        x0: Tensor,
        label: Tensor | None,
        image: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to descend and the losses to log by name, all scalars.

        network  also takes `tokens_after`, see types.Model
        image    (B, 3, H, W) in [-1, 1], what x0 (B, C, h, w) was encoded from
        """
        assert image is not None  # build.py refuses a cache, which holds none
        seen: list[Tensor] = []

        def watched(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            out, tokens = network(x, t, label, tokens_after=self.depth)
            seen.append(tokens)
            return out

        loss = objective.loss(watched, x0, label).mean()
        [tokens] = seen
        alignment = -self.similarity(tokens, image).mean()
        return loss + self.weight * alignment, {"loss": loss, "alignment": alignment}

    def similarity(self, tokens: Tensor, image: Tensor) -> Tensor:
        """Cosines (B, rows, columns) for tokens (B, D, rows, columns)."""
        with torch.no_grad():
            wanted = self.teacher(image).float()
            if wanted.shape[-2:] != tokens.shape[-2:]:
                wanted = interpolate(wanted, tokens.shape[-2:], mode="bilinear", antialias=True)
        said = self.projector(tokens.movedim(1, -1)).float()
        return cosine_similarity(said, wanted.movedim(1, -1), dim=-1)

    def get_extra_state(self) -> dict[str, str]:
        """For checkpoints."""
        return self.source

    def set_extra_state(self, state: dict[str, str]) -> None:
        """Raises UserError where another teacher taught so far."""
        if state != self.source:
            raise UserError(
                f"The run was aligned to {state['teacher']} with weights of SHA-256 {state['sha256']}, and "
                f"this teacher is {self.teacher.name} with {self.teacher.sha256}. Pass the same file as "
                "teacher.weights."
            )

"""Guidance by a classifier of noisy images."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_exp.guidance.moved import moved
from dit_exp.objective.prediction import per_image
from dit_exp.types.diffusion import Denoised, LabelDenoiser


class ClassifierGuidance:
    """score + scale * gradient of log p(label | x_t), so eps is lowered by sigma * scale * gradient.

    That is x0 + sigma^2 / alpha * scale * gradient for every prediction. At pure noise nothing tells a class
    and nothing is changed. scale 1 is Bayes' rule for a network that knows no labels; one that does is guided
    beyond its label.
    checkpoint  the classifier; in the configuration its run directory or file, which build.py loads
    Source: Dhariwal & Nichol 2021, arXiv:2105.05233, algorithm 2. Raises ValueError for no classifier.
    """

    def __init__(self, null_label: int | None, checkpoint: LabelDenoiser, scale: float = 1.0) -> None:
        """Every guidance is told the model's null label; this one has no use for it."""
        if not checkpoint.classifies:
            raise ValueError(
                "guidance.checkpoint holds no classifier. Pass a run of task=classifier model=classifier "
                "objective=classification, or use guidance=autoguidance with a weaker model."
            )
        self.classify, self.scale = checkpoint.network, scale

    def begin(self) -> ClassifierGuidance:
        return self

    def __call__(self, denoise: LabelDenoiser, x: Tensor, t: Tensor, label: Tensor | None) -> Denoised:
        assert label is not None
        said = denoise(x, t, label)
        if self.scale == 0:
            return said
        alpha, sigma = denoise.process.coefficients(t)
        factor = torch.where(alpha > 0, self.scale * sigma**2 / alpha.clamp(min=1e-30), 0)
        change = per_image(factor, x) * self.gradient(x, t, label)
        return moved(said, change, x, t, denoise.process)

    def gradient(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """d log p(label | x_t) / d x_t, shaped like x."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.classify(x, t, None).to(x.dtype)
            [gradient] = torch.autograd.grad(logits.log_softmax(1).gather(1, label[:, None]).sum(), x)
        return gradient

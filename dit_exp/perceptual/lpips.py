"""LPIPS, the learned perceptual distance, on VGG16."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_exp.errors import UserError
from dit_exp.perceptual.distance import differences

ENDS = (4, 9, 16, 23, 30)
"""Layers of VGG16 after which features are taken: the last activation of each resolution."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS:
    """Differences of unit features, weighed by learned weights of each channel, averaged over places, summed.

    vgg     torchvision's weights of VGG16, vgg16-397923af.pth
    linear  the learned weights, version 0.1: vgg.pth of LPIPS's authors, or torch-fidelity's
            weights-vgg16-lpips.pth, which is the same

    Called as `EfficientNetFeatures`. Source: Zhang et al. 2018, arXiv:1801.03924. Raises UserError for files
    that are missing or hold other weights.
    """

    name = "LPIPS (VGG16, version 0.1)"

    def __init__(self, vgg: str, linear: str, weight: float = 1.0) -> None:
        from torchvision.models import vgg16

        network = vgg16(weights=None)
        heads = {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
        loaded = tensors("vgg", vgg, {key: tuple(value.shape) for key, value in network.state_dict().items()})
        network.load_state_dict(loaded)
        layers = list(network.features.children())[: ENDS[-1]]
        self.weight, self.layers = weight, nn.Sequential(*layers).requires_grad_(False).eval()
        self.heads = list(tensors("linear", linear, heads).values())
        self.shift, self.scale = (torch.tensor(value)[:, None, None] for value in (SHIFT, SCALE))

    def to(self, device: torch.device) -> LPIPS:
        self.layers.to(device)
        self.heads = [head.to(device) for head in self.heads]
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)
        return self

    def features(self, image: Tensor) -> list[Tensor]:
        x, found = (image - self.shift) / self.scale, []
        for end, layer in enumerate(self.layers, start=1):
            # In place, torchvision's activations would change what is kept.
            x = nn.functional.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
            if end in ENDS:
                found.append(x)
        return found

    def __call__(self, image: Tensor, other: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(image)
        layers = differences(wanted, self.features(other))
        weighed = [(layer * head).sum(1).mean((1, 2)) for layer, head in zip(layers, self.heads, strict=True)]
        return self.weight * torch.stack(weighed).sum(0)


def tensors(key: str, where: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of a file by name, which must have these shapes; read without running its code."""
    path = Path(where).expanduser()
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"perceptual.{key}={where} cannot be read ({reason}). Pass the published file, or "
            "perceptual=efficientnet, which needs none."
        ) from error
    if not isinstance(found, dict) or any(
        name not in found or tuple(found[name].shape) != shape for name, shape in shapes.items()
    ):
        raise UserError(
            f"perceptual.{key}={where} holds other weights than LPIPS on VGG16 needs. Pass the published "
            "file, or perceptual=efficientnet, which needs none."
        )
    return {name: found[name].float() for name in shapes}

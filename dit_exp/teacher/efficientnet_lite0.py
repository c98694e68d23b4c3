"""EfficientNet-Lite0 as a teacher, which comes with an installed package and so needs no download."""

from __future__ import annotations

from torch import Tensor

from dit_exp.pretrained.efficientnet import WIDTH, feature_map, load_network, packaged_weights
from dit_exp.pretrained.weights import sha256


class EfficientNetTeacher:
    """The map before the global pool: (B, 3, H, W) in [-1, 1] -> (B, 1280, s / 32, s / 32).

    image_size  s, which images are resized to; its map is coarse, 7x7 at 224
    Trained on ImageNet's labels, so a run aligned to it has seen them. Raises ValueError for a side that 32
    does not divide.
    """

    name = "efficientnet-lite0"
    dims = WIDTH

    def __init__(self, image_size: int = 224) -> None:
        if image_size < 32 or image_size % 32:
            raise ValueError(f"teacher.image_size={image_size} must be a multiple of 32, such as 224.")
        path = packaged_weights()
        self.image_size, self.sha256 = image_size, sha256(path)
        self.network = load_network(path)

    def __call__(self, image: Tensor) -> Tensor:
        return feature_map(self.network, (image + 1) * 127.5, self.image_size)

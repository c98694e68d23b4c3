"""Inception v3 of the FID paper, as torch-fidelity has it: the only network whose scores are called FID."""

from __future__ import annotations

from torch import nn

from dit_exp.metrics.folding import fold_batch_norms
from dit_exp.metrics.resizing import resize_by_products
from dit_exp.pretrained.weights import located, verified

# torch-fidelity's URL carries the first eight digits; mseitzer/pytorch-fid published the same file.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Inception:
    """torch-fidelity's "inception-v3-compat": 2048 features, 1008 unbiased logits.

    weights  weights-inception-2015-12-05-6726825d.pth; None downloads it to torch's hub cache once
    Raises UserError where the file cannot be had, or is another one: it is verified before it is loaded.
    """

    name = "inception-v3-compat"
    dims = 2048
    resize = "bilinear as in TensorFlow 1, to 299"

    def __init__(self, weights: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

        self.names = {"fd": "fid", "is": "is", "kd": "kid", "precision": "precision", "recall": "recall"}
        path = located(weights, URL_INCEPTION_V3, "metrics", "offline")
        what = f"The scores {', '.join(self.names.values())}"
        self.sha256 = verified(path, SHA256, what, "metrics", "offline")
        published = FeatureExtractorInceptionV3(
            self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
        self.network: nn.Module = resize_by_products(fold_batch_norms(published))

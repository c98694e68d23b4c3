"""Diffusion Transformer: patches in, one stack of equal blocks, patches out."""

from __future__ import annotations

from typing import ClassVar

from dit_exp.model.stack import Stack


class DiT(Stack):
    """A stack over patches and a fixed table of positions; what it takes, see `model.stack`.

    The blocks have LayerNorms without gains and MLPs with GELU. At the start the output is 0.
    Source: Peebles & Xie 2022, arXiv:2212.09748, whose published weights model.checkpoint= reads.
    """

    published: ClassVar = {
        r"x_embedder\.proj": "patch",
        r"pos_embed": "position",
        r"t_embedder\.mlp\.0": "time.inner",
        r"t_embedder\.mlp\.2": "time.outer",
        r"y_embedder\.embedding_table": "label.table",
        r"blocks\.(\d+)\.attn\.qkv": r"blocks.\1.attn.qkv",
        r"blocks\.(\d+)\.attn\.proj": r"blocks.\1.attn.out",
        r"blocks\.(\d+)\.mlp\.fc1": r"blocks.\1.mlp.inner",
        r"blocks\.(\d+)\.mlp\.fc2": r"blocks.\1.mlp.outer",
        r"blocks\.(\d+)\.adaLN_modulation\.1": r"cond.blocks.\1",
        r"final_layer\.adaLN_modulation\.1": "cond.head",
        r"final_layer\.linear": "head",
    }

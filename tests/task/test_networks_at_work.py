"""A trained model at another image size, published weights by their path, and blocks kept while sampling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composing import composed
from torch import Tensor, nn

from dit_exp.build import build
from dit_exp.errors import UserError
from dit_exp.task.generate import generate
from dit_exp.task.train import train

PLAIN = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler.steps=3", "model.width=32",
    "model.heads=4", "trainer.max_steps=2", "trainer.batch_size=8", "trainer.warmup_steps=0",
    "optimizer.lr=1e-2", "guidance=cfg",
]  # fmt: skip
DEPTH = {"dit_b": "model.depth=3", "ddt_b": "model.encoder_depth=2", "uvit_s": "model.depth=2"}


def parts(run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    cfg, choices = composed([*PLAIN, *overrides])
    return build(cfg, choices, [*PLAIN, *overrides], run_dir)


@pytest.mark.parametrize("model", ["dit_b", "uvit_s"])
def test_a_run_draws_images_larger_than_those_it_was_trained_on(tmp_path: Path, model: str):
    words = [f"model={model}", DEPTH[model], "model.patch_size=2"]
    train(parts(tmp_path / "run", *words))
    run = parts(tmp_path / "large", *words, "data.image_size=12", f"checkpoint={tmp_path / 'run'}")
    assert run.model.position.shape[1] == 16  # the table it was trained with
    [samples] = generate(run, run.model, 2, 2)
    assert samples.images.shape == (2, 3, 12, 12)
    same = parts(tmp_path / "same", *words, f"checkpoint={tmp_path / 'run'}")
    [small] = generate(same, same.model, 2, 2)
    assert small.images.shape == (2, 3, 8, 8)


def test_a_weaker_run_guides_images_of_another_size_than_its_own(tmp_path: Path):
    words = ["model=dit_b", DEPTH["dit_b"], "data.image_size=12"]
    train(parts(tmp_path / "weak", "model=dit_b", DEPTH["dit_b"]))
    guided = ["guidance=autoguidance", f"guidance.checkpoint={tmp_path / 'weak'}"]
    run = parts(tmp_path / "run", *words, *guided)
    [samples] = generate(run, run.model, 2, 2)
    assert samples.images.shape == (2, 3, 12, 12)


def test_data_of_other_classes_than_the_run_s_is_refused(tmp_path: Path):
    words = ["model=dit_b", DEPTH["dit_b"]]
    train(parts(tmp_path / "run", *words))
    faces = ["data=celebahq", f"data.root={tmp_path}", "data.image_size=8", "guidance=none"]
    cfg, choices = composed(given := [*faces, f"checkpoint={tmp_path / 'run'}", "tracker=none"])
    with pytest.raises(
        UserError, match=r"was trained on images of 10 classes, and those of this data have 0"
    ):
        build(cfg, choices, given, tmp_path / "out")


class Kept(nn.Module):
    """A model whose first blocks are run apart and used at once."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.decode(x, t, label, self.model.encode(x, t, label))


@pytest.mark.parametrize("model", DEPTH)
def test_sampling_with_blocks_kept_for_no_step_is_sampling_without_keeping(tmp_path: Path, model: str):
    run = parts(tmp_path / "run", f"model={model}", DEPTH[model], "model.patch_size=2")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in run.model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    [plain], [kept] = generate(run, run.model, 4, 4), generate(run, Kept(run.model), 4, 4)
    assert torch.equal(plain.images, kept.images)
    assert plain.images.float().std() > 1


def theirs(model: nn.Module) -> dict[str, Tensor]:
    """A tiny DiT's weights, drawn, under the published names."""
    rules = [
        ("patch.", "x_embedder.proj."), ("position", "pos_embed"), ("time.inner", "t_embedder.mlp.0"),
        ("time.outer", "t_embedder.mlp.2"), ("label.table", "y_embedder.embedding_table"),
        ("attn.out", "attn.proj"), ("mlp.inner", "mlp.fc1"), ("mlp.outer", "mlp.fc2"),
        ("cond.head", "final_layer.adaLN_modulation.1"),
    ]  # fmt: skip
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("cond.blocks."):
            _, _, i, kind = name.split(".")
            name = f"blocks.{i}.adaLN_modulation.1.{kind}"
        elif name.startswith("head."):
            name = f"final_layer.linear.{name.removeprefix('head.')}"
        for mine, published in rules:
            name = name.replace(mine, published)
        weights[name] = value if name == "pos_embed" else torch.randn(value.shape)
    shape = weights["x_embedder.proj.weight"].shape[0], 3, 4, 4
    return weights | {"x_embedder.proj.weight": weights["x_embedder.proj.weight"].reshape(shape)}


def test_published_weights_are_read_from_their_path_and_a_run_of_them_needs_it_no_more(tmp_path: Path):
    words = ["model=dit_b", DEPTH["dit_b"], "optimizer.lr=0"]
    weights = theirs(parts(tmp_path / "shape", *words).model)
    torch.save(weights, tmp_path / "published.pt")
    run = parts(tmp_path / "run", *words, f"model.checkpoint={tmp_path / 'published.pt'}")
    assert torch.equal(run.model.blocks[2].mlp.inner.weight, weights["blocks.2.mlp.fc1.weight"])
    assert torch.equal(run.model.patch.weight, weights["x_embedder.proj.weight"].flatten(1))
    train(run)
    (tmp_path / "published.pt").unlink()
    drawn = parts(tmp_path / "drawn", *words, f"checkpoint={tmp_path / 'run'}")
    assert torch.equal(drawn.model.head.weight, weights["final_layer.linear.weight"])


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (None, r"weights.pt is no file. Pass the path of the published weights"),
        (b"no weights", r"cannot be read .*No code of it was run"),
        ({"step": 3}, r"holds more than a dictionary of tensors.*checkpoint=RUN_DIR"),
        ({"odd": torch.ones(1)}, r"model.checkpoint is of another architecture; \d+ keys differ"),
    ],
)
def test_a_file_that_holds_no_published_weights_is_refused(tmp_path: Path, stored, text: str):
    path = tmp_path / "weights.pt"
    if isinstance(stored, bytes):
        path.write_bytes(stored)
    elif stored is not None:
        torch.save(stored, path)
    with pytest.raises(UserError, match=text):
        parts(tmp_path / "run", "model=dit_b", DEPTH["dit_b"], f"model.checkpoint={path}")

"""Alignment to a teacher: its loss, what it trains and what it leaves alone."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from networks import network, randomized
from torch import Tensor, nn

from dit_exp import checkpoint
from dit_exp.alignment.none import NoAlignment
from dit_exp.alignment.repa import RepresentationAlignment
from dit_exp.autoencoder.identity import Identity
from dit_exp.data.digits import Digits
from dit_exp.errors import UserError
from dit_exp.objective.v import VelocityPrediction
from dit_exp.optimizer.adamw import adamw
from dit_exp.process.flow import Flow
from dit_exp.sampler.denoise import on_process_time
from dit_exp.timesteps.uniform import Uniform
from dit_exp.tracker.none import NoTracker
from dit_exp.trainer.loop import Trainer
from dit_exp.types.data import Augmented

OBJECTIVE = VelocityPrediction(Flow(), Uniform())
DATA = Digits(image_size=8)


class Patches:
    """Teaches four numbers of each of 4x4 patches: their mean colours and a one; keeps the images it saw."""

    name, dims = "patches", 4

    def __init__(self, sha256: str = "0" * 64) -> None:
        self.sha256, self.network, self.seen = sha256, nn.Dropout(0.5).eval(), []

    def __call__(self, image: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.seen.append(image)
        colours = nn.functional.adaptive_avg_pool2d(self.network(image), 4)
        return torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)


def alignment(model: nn.Module, **keys) -> RepresentationAlignment:
    torch.manual_seed(1)
    return RepresentationAlignment(model, 3, keys.pop("teacher", Patches()), width=8, **keys)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([1, 2, 3, 10])


@pytest.mark.parametrize("name", ["dit", "dit_token", "ddt", "uvit"])
def test_the_loss_is_the_objective_s_and_half_the_negative_cosine(name: str):
    model = randomized(network(name))
    aligned, (x, label) = alignment(model), batch()
    call = on_process_time(model, OBJECTIVE.process)
    kept: list[Tensor] = []
    model.blocks[model.encoder_depth - 1].register_forward_hook(lambda *given: kept.append(given[2]))
    torch.manual_seed(0)
    descended, losses = aligned(OBJECTIVE, call, x, label, x)
    torch.manual_seed(0)
    plain = OBJECTIVE.loss(call, x, label).mean()
    assert torch.equal(losses["loss"], plain)
    said = aligned.projector(kept[0][:, :16])  # row by row
    wanted = aligned.teacher.seen[0].unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)).flatten(2).mT
    wanted = torch.cat([wanted, torch.ones(4, 16, 1)], dim=2)
    cosine = (said * wanted).sum(2) / (said.norm(dim=2) * wanted.norm(dim=2))
    torch.testing.assert_close(losses["alignment"], -cosine.mean())
    torch.testing.assert_close(descended, plain + 0.5 * losses["alignment"])


def test_without_alignment_the_loss_is_the_objective_s_bit_for_bit():
    model, (x, label) = randomized(network("dit")), batch()
    call = on_process_time(model, OBJECTIVE.process)
    torch.manual_seed(0)
    descended, losses = NoAlignment()(OBJECTIVE, call, x, label, x)
    torch.manual_seed(0)
    assert torch.equal(descended, OBJECTIVE.loss(call, x, label).mean())
    assert losses == {"loss": descended}
    assert not NoAlignment().state_dict()


def test_a_map_of_another_size_is_interpolated_to_the_tokens_grid():
    """Of a ramp's four columns eight are made, linear between their middles; rows halve."""
    aligned = alignment(network("dit"))
    aligned.projector = nn.Identity()
    ramp = torch.linspace(-0.75, 0.75, 4).repeat_interleave(2).expand(1, 3, 8, 8)
    columns = torch.tensor([-0.75, -0.625, -0.375, -0.125, 0.125, 0.375, 0.625, 0.75])
    said = torch.cat([columns.expand(1, 3, 2, 8), torch.ones(1, 1, 2, 8)], dim=1)
    torch.testing.assert_close(aligned.similarity(said, ramp), torch.ones(1, 2, 8))
    torch.testing.assert_close(aligned.similarity(-said, ramp), -torch.ones(1, 2, 8))


def test_gradients_reach_projector_and_early_blocks_and_neither_teacher_nor_late_blocks():
    model = randomized(network("dit"))
    aligned, (x, label) = alignment(model, depth=2), batch()
    _, losses = aligned(OBJECTIVE, on_process_time(model, OBJECTIVE.process), x, label, x.requires_grad_())
    losses["alignment"].backward()
    for parameter in (*aligned.parameters(), *model.blocks[1].parameters()):
        assert parameter.grad is not None
    assert aligned.projector[0].weight.grad.abs().sum() > 0
    for block in model.blocks[2:]:
        assert all(p.grad is None for p in block.parameters())


def test_the_teacher_stays_as_it_is_and_out_of_checkpoints():
    aligned = alignment(network("dit"))
    aligned.train()
    assert not aligned.teacher.network.training
    state = aligned.state_dict()
    layers = [f"projector.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    assert sorted(state) == sorted([*layers, "_extra_state"])
    assert state["_extra_state"] == {"teacher": "patches", "sha256": "0" * 64}
    assert sum(p.numel() for p in aligned.parameters()) == 33 * 8 + 9 * 8 + 9 * 4


@pytest.mark.parametrize(
    ("name", "keys", "text"),
    [
        ("diffit_cifar", {}, r"blocks of DiffiTImage cannot be run apart.*Use alignment=none"),
        ("dit", {"depth": 5}, r"alignment.depth=5 must be 1 to 4"),
        ("dit", {"depth": 0}, r"alignment.depth=0 must be 1 to 4"),
        ("ddt", {"depth": 4}, r"alignment.depth=4 must be 1 to 3"),  # a block of its decoder
        ("dit", {"width": 0}, r"alignment.width=0 must be at least 1"),
        ("dit", {"channels": 1}, r"The data has 1 channel.*teacher=patches takes RGB images"),
    ],
)
def test_what_cannot_be_aligned_is_refused(name: str, keys: dict[str, int], text: str):
    with pytest.raises(ValueError, match=text):
        RepresentationAlignment(network(name), **({"channels": 3, "teacher": Patches()} | keys))


class Mirror:
    """Mirrors every image and says so."""

    entries = 1

    def __call__(self, image: Tensor) -> Augmented:
        return Augmented(image.flip(3), {"augmentation": torch.ones(len(image), 1)})


class Halved(Identity):
    """Latents that are every second pixel; keeps what it encoded."""

    stochastic = False

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def statistics(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        return image[..., ::2, ::2]

    def latent(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        return statistics

    def latent_shape(self, image_shape):
        return image_shape[0], image_shape[1] // 2, image_shape[2] // 2


def fit(run_dir: Path, teacher: Patches | None = None, tracker=None, augment=None, autoencoder=None, **keys):
    keys = {"max_steps": 6, "batch_size": 16, "log_every": 1, "checkpoint_every": 2, "warmup_steps": 0} | keys
    run_dir.mkdir(exist_ok=True)
    autoencoder = autoencoder or Identity()
    model = network("dit", autoencoder.latent_shape((3, 8, 8)))
    if augment:
        model.add_augmentation(augment.entries)
    return Trainer(**keys).fit(
        model,
        functools.partial(on_process_time, process=OBJECTIVE.process),
        OBJECTIVE,
        autoencoder,
        DATA,
        functools.partial(adamw, lr=3e-3),
        tracker or NoTracker(),
        run_dir,
        seed=0,
        config={},
        choices={},
        augment=augment,
        alignment=alignment(model, teacher=teacher or Patches()),
    )


def test_the_teacher_sees_the_image_that_was_encoded_also_where_the_model_sees_latents(tmp_path: Path):
    teacher, autoencoder = Patches(), Halved()
    state, _ = fit(tmp_path, teacher, augment=Mirror(), autoencoder=autoencoder, max_steps=2, accumulate=2)
    assert len(teacher.seen) == len(autoencoder.seen) == 4
    for taught, encoded in zip(teacher.seen, autoencoder.seen, strict=True):
        assert taught.shape == (8, 3, 8, 8)
        assert torch.equal(taught, encoded)
    first = next(DATA.train(16, seed=0).batches()).image[:8]
    assert torch.equal(teacher.seen[0], (first.float() / 127.5 - 1).flip(3))
    assert state.model.augmentation.weight in state.optimizer.state


def test_training_aligns_and_says_so_in_a_column_of_its_own(tmp_path: Path):
    _, history = fit(tmp_path, max_steps=80, checkpoint_every=100)
    rows = history.rows
    assert list(rows[0]) == ["step", "loss", "alignment", "learning_rate", "gradient_norm"]
    assert rows[0]["alignment"] > -0.6
    assert max(row["alignment"] for row in rows[-10:]) < -0.9


def test_bfloat16_aligns_near_float32(tmp_path: Path):
    _, plain = fit(tmp_path / "a")
    _, rough = fit(tmp_path / "b", precision="bf16")
    assert rough.rows != plain.rows
    for row, near in zip(plain.rows, rough.rows, strict=True):
        assert near["alignment"] == pytest.approx(row["alignment"], abs=2e-2)


class Interrupting(NoTracker):
    def log(self, values: dict[str, float], step: int) -> None:
        if step == 5:
            raise ConnectionError("gone")


def test_the_projector_is_trained_saved_and_resumed_bit_for_bit(tmp_path: Path):
    whole, trace = fit(tmp_path / "whole", augment=Mirror())
    with pytest.raises(ConnectionError):
        fit(tmp_path / "broken", tracker=Interrupting(), augment=Mirror())
    resumed, again = fit(tmp_path / "broken", augment=Mirror())
    assert trace.rows == again.rows
    fresh = alignment(network("dit")).state_dict()
    stored = checkpoint.newest(tmp_path / "whole")[1]["alignment"]
    for key, value in resumed.alignment.state_dict().items():
        if key != "_extra_state":
            assert torch.equal(value, whole.alignment.state_dict()[key])
            assert torch.equal(value, stored[key])
            assert not torch.equal(value, fresh[key])
    assert stored["_extra_state"]["sha256"] == "0" * 64


def test_a_run_does_not_go_on_with_another_teacher(tmp_path: Path):
    fit(tmp_path, max_steps=2)
    with pytest.raises(UserError, match=r"(?s)aligned to patches with .* 0{64}.* 1{64}.*another run_dir"):
        fit(tmp_path, Patches("1" * 64))

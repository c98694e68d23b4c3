"""Every file in conf/experiment composes, builds at its own size, and trains and samples at a tiny one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composing import CONF, composed
from encoding import encoding, using
from hydra.utils import instantiate
from omegaconf import OmegaConf
from published import dino, vae

from dit_exp.build import build, build_stage
from dit_exp.check import preflight
from dit_exp.nn.count import count_gmac, count_parameters
from dit_exp.task.cache import cache
from dit_exp.task.generate import generate
from dit_exp.task.measure import training

FOLDER = CONF / "experiment"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
# What is compared with each other in the same minutes.
SMALL = [name for name in NAMES if "/experiment/on/two_cores" in (FOLDER / f"{name}.yaml").read_text()]
# What others include and no run is made of alone.
SHARED = [name for name in NAMES if name.startswith("on/")]
FIRST_STAGES = [name for name in NAMES if name.endswith("_stage1")]
SECOND_STAGES = [name for name in NAMES if name.endswith("_stage2")]
LATENT = {name for name in NAMES if name.endswith("_256")}
TINY = [
    "data=digits", "data.image_size=16", "tracker=none", "metrics=none", "model.width=32", "model.heads=4",
    "sampler.steps=2", "trainer.max_steps=1", "trainer.max_minutes=null", "trainer.max_epochs=null",
    "trainer.batch_size=8", "trainer.compile=false", "trainer.precision=fp32", "task.score_epochs=0",
]  # fmt: skip
# Depths that make a class of model small, and what else must be small with them.
DEPTHS = {
    "DiT": ["model.depth=1"],
    "DDT": ["model.encoder_depth=1", "model.decoder_depth=1"],
    "DiffiTLatent": ["model.depth=1"],
    "DiffiTImage": ["model.depth=1"],
    "UViT": ["model.depth=2"],
    "JiT": ["model.depth=1", "cond.start=0", "model.patch_size=4"],
    "Hourglass": ["model.depth=1", "model.inner_depth=1"],
}


def shape_of(name: str, size: int) -> tuple[int, int, int]:
    return (4, 32, 32) if name in LATENT else (3, size, size)


def counted(name: str) -> tuple[float, float]:
    """Parameters in millions and GMAC of an experiment's network, on the meta device."""
    cfg, _ = composed([f"experiment={name}"])
    shape = shape_of(name, cfg.data.image_size)
    hybrid = cfg.objective._target_.endswith("HybridNoisePrediction")
    classes = instantiate(cfg.data).num_classes if name not in LATENT | {"jit_b"} else 1000
    with torch.device("meta"):
        facts = {"out_channels": shape[0] * (1 + hybrid), "num_classes": classes}
        model = instantiate(cfg.model)(input_shape=shape, **facts)
    return count_parameters(model) / 1e6, count_gmac(model, shape, classes)


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_passes_the_preflight(name: str):
    preflight(composed([f"experiment={name}", *(["data.root=latents"] if name in SECOND_STAGES else [])])[0])


@pytest.mark.parametrize("name", sorted(LATENT))
def test_every_experiment_on_latents_takes_cached_ones(name: str):
    words = ["data=latents", "data.root=latents", "alignment=none"]
    cfg, choices = composed([f"experiment={name}", *words])
    preflight(cfg)
    assert (choices["data"], choices["alignment"], "teacher" in cfg) == ("latents", "none", False)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in {*SHARED, *FIRST_STAGES, *SECOND_STAGES}]
)
def test_every_experiment_builds_at_its_own_size(name: str):
    """On the meta device, forward pass and all; sizes that a paper gives are asserted below."""
    parameters, gmac = counted(name)
    assert parameters > 0.5
    assert gmac > 0.01


def named_files(name: str, folder: Path) -> list[str]:
    """What the files are that an experiment is told of on the command line, all of them small."""
    _, choices = composed([f"experiment={name}"])
    words = []
    if choices["autoencoder"] == "sd_vae":
        words += [f"autoencoder.source={vae(folder / 'vae')}"]
    if choices.get("teacher") == "dinov2":
        weights = dino(folder / "dinov2_vits14_pretrain.pth")
        words += [f"teacher.weights={weights}", "teacher.size=small", "teacher.image_size=28"]
        words += ["alignment.depth=1"]
    return words


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*SHARED, *FIRST_STAGES}])
def test_every_experiment_takes_a_step_and_samples_at_a_tiny_size(name: str, tmp_path: Path):
    kind = composed([f"experiment={name}"])[0].model._target_.rpartition(".")[2]
    words = [f"experiment={name}", *TINY, *DEPTHS[kind], *named_files(name, tmp_path)]
    if name in SECOND_STAGES:
        given = encoding(tmp_path / "encoding", *using("Halves"), of=["data=digits", "data.image_size=16"])
        cache(given, str(tmp_path / "latents"))
        words = [word for word in words if not word.startswith("data")]
        words.append(f"data.root={tmp_path}/latents")
    cfg, choices = composed(words)
    preflight(cfg)
    torch.manual_seed(0)
    run = build(cfg, choices, words, tmp_path)
    before = run.model.head.weight.clone()
    training(run, steps=1, warmup=0)
    assert not torch.equal(before, run.model.head.weight)
    [samples] = generate(run, run.model, 4, 4)
    assert samples.images.shape == (4, 3, 16, 16)


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_every_first_stage_takes_a_step_at_a_tiny_size(name: str, tmp_path: Path):
    words = [
        f"experiment={name}", "data=digits", "data.image_size=16", "tracker=none", "metrics=none",
        "autoencoder.widths=[8,16]", "autoencoder.groups=4", "autoencoder.codebook_size=16",
        "discriminator.start=0", "discriminator.width=4", "discriminator.layers=1", "perceptual=none",
        "trainer.max_steps=1", "trainer.max_minutes=null", "trainer.batch_size=8", "task.images=4",
        "task.scale_images=20",
    ]  # fmt: skip
    cfg, choices = composed(words)
    preflight(cfg)
    stage = build_stage(cfg, choices, words, tmp_path)
    before = [weight.clone() for weight in stage.autoencoder.parameters()]  # type: ignore[attr-defined]
    instantiate(cfg.task)(stage)
    after = list(stage.autoencoder.parameters())  # type: ignore[attr-defined]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with_weights = instantiate(OmegaConf.merge(cfg.autoencoder, {"checkpoint": str(tmp_path)}))
    assert int(with_weights.measured) == 20
    assert with_weights.latent_shape((3, 16, 16)) == (4, 8, 8)


def test_the_stages_of_small_faces_fit_each_other():
    """Faces of 64x64 become latents of 16x16x4, and what is trained on them has about 4 M parameters."""
    first, choices = composed(["experiment=small/celeba_stage1"])
    assert (choices["data"], first.data.image_size) == ("celebahq", 64)
    shape = instantiate(first.autoencoder).latent_shape((3, 64, 64))
    assert shape == (4, 16, 16)
    second, choices = composed(["experiment=small/celeba_stage2", "data.root=latents"])
    assert (choices["data"], choices["process"], choices["objective"]) == ("latents", "flow", "v")
    model = instantiate(second.model)(input_shape=shape, out_channels=4, num_classes=0)
    assert 3.8 < count_parameters(model) / 1e6 < 4.4
    assert second.trainer.max_minutes
    assert second.trainer.ema_decay


def test_alignment_and_augmentation_are_those_of_the_papers():
    for name, width in (("ddt_b_256", 768), ("ddt_l_256", 1024), ("ddt_xl_256", 1152)):
        cfg, choices = composed([f"experiment={name}"])
        assert (choices["alignment"], choices["teacher"]) == ("repa_ddt", "dinov2")
        assert (cfg.alignment.weight, cfg.alignment.depth, cfg.alignment.width) == (0.5, 8, width)
        assert (cfg.teacher.size, choices["data"], choices["autoencoder"]) == ("base", "imagenet", "sd_vae")
    cfg, choices = composed(["experiment=diffit_cifar"])
    assert (choices["augment"], cfg.augment.probability, cfg.data.flip) == ("edm", 0.12, False)


# What the papers and their code say of each system. Without a dot it is a choice; None: there is no such key.
IMAGENET = {
    "optimizer": "adamw", "optimizer.lr": 1e-4, "optimizer.betas": [0.9, 0.999],
    "optimizer.weight_decay": 0.0, "lr_schedule": "constant", "trainer.batch_size": 256,
    "trainer.warmup_steps": 0, "trainer.gradient_clip": 0.0, "trainer.ema_decay": 0.9999, "data.flip": True,
    "data.image_size": 256,
    "autoencoder": "sd_vae", "model.class_dropout": 0.1, "model.mlp_ratio": 4.0, "sampler.steps": 250,
    "sampler.clip": False, "metrics": "fid", "metrics.num_samples": 50000, "alignment": "none",
}  # fmt: skip
ADM = {
    "process": "linear", "process.start": 1e-4, "process.end": 0.02, "process.steps": 1000,
    "objective": "eps_hybrid", "timesteps": "uniform", "weighting": "none", "sampler": "ddpm",
}  # fmt: skip
DIT = IMAGENET | ADM | {"attn": "mha", "cond": "adaln", "guidance": "none", "trainer.max_steps": 400000}
DDT = IMAGENET | {
    "optimizer.betas": [0.9, 0.95], "process": "flow", "objective": "v", "timesteps": "logit_normal",
    "timesteps.mean": 0.0, "timesteps.std": 1.0, "sampler": "euler", "guidance": "interval",
    "guidance.scale": 2.0, "guidance.interval": [0.0, 0.7], "guidance.channels": "all", "attn": "rope",
    "attn.qk_norm": True, "attn.qkv_bias": False, "cond": "adaln_open", "alignment": "repa_ddt",
    "alignment.weight": 0.5, "alignment.depth": 8, "model.patch_size": 2,
}  # fmt: skip
EDM = {
    "process": "edm", "process.sigma_min": 0.002, "process.sigma_max": 80.0, "process.rho": 7.0,
    "process.sigma_data": 0.5, "objective": "edm", "weighting": "edm", "timesteps": "log_normal",
    "timesteps.mean": -1.2, "timesteps.std": 1.2, "sampler": "heun", "sampler.steps": 18,
    "sampler.churn": 0.0,
}  # fmt: skip
SHAPES = {"s": (12, 384, 6), "b": (12, 768, 12), "l": (24, 1024, 16), "xl": (28, 1152, 16)}
RECIPES = {
    **{
        f"dit_{size}_{patch}_256": DIT
        | dict(zip(("model.depth", "model.width", "model.heads"), shape, strict=True))
        | {"model.patch_size": patch}
        for size, shape in SHAPES.items()
        for patch in (2, 4, 8)
    },
    "sit_xl_2_256": DIT | {
        "model.depth": 28, "model.width": 1152, "model.heads": 16, "model.patch_size": 2, "process": "flow",
        "objective": "v", "sampler": "sde", "sampler.strength": 1.0,
    } | dict.fromkeys(("process.start", "process.end", "process.steps")),
    **{
        f"ddt_{size}_256": DDT | {
            "model.encoder_depth": encoder, "model.decoder_depth": decoder, "model.width": SHAPES[size][1],
            "model.heads": SHAPES[size][2], "alignment.width": SHAPES[size][1],
        }
        for size, encoder, decoder in (("b", 8, 4), ("l", 20, 4), ("xl", 22, 6))
    },
    "diffit_latent_256": IMAGENET | ADM | {
        "optimizer.lr": 3e-4, "guidance": "power_cosine", "guidance.scale": 4.6, "guidance.power": 4.0,
        "guidance.channels": 3, "attn": "tmsa", "cond": "none", "model.depth": 28, "model.width": 1152,
        "model.heads": 16, "model.patch_size": 2,
    },
    "diffit_cifar": EDM | {
        "optimizer.lr": 1e-3, "optimizer.betas": [0.9, 0.999], "optimizer.weight_decay": 0.0,
        "trainer.batch_size": 512, "trainer.max_steps": 200000, "trainer.gradient_clip": 0.0,
        "data": "cifar_unlabelled", "augment": "edm", "augment.probability": 0.12, "guidance": "none",
        "model.depth": 2, "model.stages": 3, "model.width": 128, "model.time_width": 512, "attn.window": 4,
        "metrics.num_samples": 50000,
    },
    "uvit_cifar": {
        "optimizer.lr": 2e-4, "optimizer.betas": [0.99, 0.999], "optimizer.weight_decay": 0.03,
        "trainer.batch_size": 128, "trainer.max_steps": 500000, "trainer.warmup_steps": 2500,
        "trainer.gradient_clip": 0.0, "trainer.ema_decay": 0.9999, "data": "cifar_unlabelled",
        "data.flip": True, "process": "vp", "process.beta_min": 0.1, "process.beta_max": 20.0,
        "objective": "eps", "timesteps": "uniform", "sampler.steps": 1000, "sampler.variance": "large",
        "sampler.clip": False, "guidance": "none", "attn.qkv_bias": False, "model.depth": 12,
        "model.width": 512, "model.heads": 8, "model.patch_size": 2, "metrics.num_samples": 50000,
    },
    "jit_b": {
        "optimizer.lr": 2e-4, "optimizer.betas": [0.9, 0.95], "optimizer.weight_decay": 0.0,
        "lr_schedule": "constant", "trainer.batch_size": 1024, "trainer.max_epochs": 200,
        "trainer.warmup_steps": 6256, "trainer.gradient_clip": 0.0, "trainer.ema_decay": 0.9999,
        "process": "flow", "objective": "x_velocity", "objective.floor": 0.05, "timesteps": "logit_normal",
        "timesteps.mean": 0.8, "timesteps.std": 0.8, "sampler": "heun", "sampler.steps": 50,
        "guidance": "interval", "guidance.scale": 2.9, "guidance.interval": [0.0, 0.9], "attn": "rope",
        "attn.qk_norm": True, "attn.qkv_bias": True, "cond": "incontext", "cond.tokens": 32, "cond.start": 4,
        "model.depth": 12, "model.width": 768, "model.heads": 12, "model.patch_size": 16,
        "model.bottleneck": 128, "data.image_size": 256,
    },
    "cifar_report": {
        "optimizer": "adamw", "optimizer.lr": 2e-4, "optimizer.betas": [0.9, 0.999],
        "optimizer.weight_decay": 1e-4, "lr_schedule": "constant", "trainer.batch_size": 256,
        "trainer.max_epochs": 200, "trainer.warmup_steps": 0, "trainer.gradient_clip": 0.0,
        "trainer.ema_decay": 0.0, "process": "linear", "process.start": 1e-4, "process.end": 0.02,
        "process.steps": 1000, "objective": "eps", "timesteps": "uniform", "sampler": "ddpm",
        "sampler.steps": 1000, "guidance": "none", "attn": "gqa", "attn.kv_heads": 2, "cond": "token",
        "cond.tokens": 1, "model.depth": 12, "model.width": 384, "model.heads": 8, "model.patch_size": 4,
        "metrics.num_samples": 5000,
    },
    "celebahq_stage1": {
        "optimizer.lr": 1e-5, "optimizer.betas": [0.5, 0.999], "trainer.batch_size": 4,
        "trainer.max_steps": 75000, "trainer.warmup_steps": 0, "trainer.gradient_clip": 0,
        "data.image_size": 128, "autoencoder": "vq", "autoencoder.codebook_size": 8192,
        "autoencoder.channels": 4, "autoencoder.widths": [128, 256, 384], "autoencoder.layers": 2,
        "autoencoder.commitment": 0.2, "discriminator.weight": 0.5, "discriminator.start": 7500,
        "discriminator.adaptive": False, "discriminator.lr": 1e-5, "discriminator.betas": [0.5, 0.999],
        "perceptual.weight": 1.0, "task.exponent": 2.0,
    },
    "celebahq_stage2": {
        "optimizer.lr": 1e-5, "trainer.batch_size": 32, "trainer.max_steps": 468750,
        "trainer.warmup_steps": 0, "process": "linear", "process.start": 1e-4, "process.end": 0.02,
        "process.steps": 1000, "objective": "eps", "cond": "adaln", "model.depth": 12, "model.width": 768,
        "model.heads": 12, "model.patch_size": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_published_systems_have_their_published_numbers(name: str):
    root = ["data.root=latents"] if name in SECOND_STAGES else []
    cfg, choices = composed([f"experiment={name}", *root])
    found = {key: OmegaConf.select(cfg, key) if "." in key else choices[key] for key in RECIPES[name]}
    assert found == RECIPES[name]


# Figures of the papers, as in docs/models.md.
@pytest.mark.parametrize(
    ("name", "millions", "gmac"),
    [
        ("dit_s_8_256", 33, 0.36), ("dit_s_4_256", 33, 1.41), ("dit_s_2_256", 33, 6.06),
        ("dit_b_8_256", 131, 1.42), ("dit_b_4_256", 130, 5.56), ("dit_b_2_256", 130, 23.01),
        ("dit_l_8_256", 459, 5.01), ("dit_l_4_256", 458, 19.70), ("dit_l_2_256", 458, 80.71),
        ("dit_xl_8_256", 676, 7.39), ("dit_xl_4_256", 675, 29.05), ("dit_xl_2_256", 675, 118.64),
        ("sit_xl_2_256", 675, 118.64), ("ddt_l_256", 458, None), ("ddt_xl_256", 675, None),
        ("diffit_latent_256", 561, None), ("jit_b", 131, 25), ("uvit_cifar", 44, None),
    ],
)  # fmt: skip
def test_published_systems_have_their_published_sizes(name: str, millions: float, gmac: float | None):
    parameters, cost = counted(name)
    assert parameters == pytest.approx(millions, abs=0.6)
    if gmac is not None:
        assert cost == pytest.approx(gmac, rel=0.015)


def test_the_report_is_its_own_description():
    cfg, choices = composed(["experiment=cifar_report"])
    assert (cfg.model.depth, cfg.model.width, cfg.model.heads, cfg.attn.kv_heads) == (12, 384, 8, 2)
    assert (choices["cond"], choices["process"], choices["objective"]) == ("token", "linear", "eps")
    assert (cfg.process.start, cfg.process.end, cfg.process.steps) == (1e-4, 0.02, 1000)
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (2e-4, 1e-4)
    assert (cfg.trainer.max_epochs, cfg.trainer.ema_decay, cfg.task.score_epochs) == (200, 0, 40)
    parameters, _ = counted("cifar_report")
    # 12 blocks of D^2 (1 query, 2/4 keys and values, 1 out, 8 MLP) are 18.6 M, embeddings and head the rest.
    assert pytest.approx(18.6, abs=0.05) == 12 * 10.5 * 384**2 / 1e6
    assert 18.6 < parameters < 19.1
    model = instantiate(cfg.model)(input_shape=(3, 32, 32), out_channels=3, num_classes=10)
    assert model.null_label is None
    assert {block.attn.size for block in model.blocks} == {48}


@pytest.mark.parametrize("name", ["cifar_modern", "ddt_cifar"])
def test_what_is_compared_with_the_report_has_its_blocks_and_its_epochs(name: str):
    ours, report = (composed([f"experiment={which}"])[0] for which in (name, "cifar_report"))
    depth = ours.model.get("depth") or ours.model.encoder_depth + ours.model.decoder_depth
    assert (depth, ours.model.width, ours.model.patch_size) == (12, 384, 4)
    for key in ("max_steps", "max_epochs", "batch_size"):
        assert ours.trainer[key] == report.trainer[key]
    assert ours.task.score_epochs == report.task.score_epochs


@pytest.mark.parametrize(("name", "process"), [("cifar_modern", "flow"), ("cifar_sota", "edm")])
def test_guidance_in_the_middle_is_where_the_noise_is_between_a_fifth_and_three(name: str, process: str):
    cfg, choices = composed([f"experiment={name}"])
    assert choices["process"] == process
    times = instantiate(cfg.process).time_at(torch.tensor([0.2, 3.0], dtype=torch.float64))
    assert times.tolist() == pytest.approx(list(cfg.guidance.interval), abs=1e-3)


def test_small_systems_are_alike_but_for_what_makes_them():
    """One budget, batch, optimizer and protocol, alike in work, 15 evaluations an image."""
    sizes, work, shared = {}, {}, []
    for name in SMALL:
        cfg, choices = composed([f"experiment={name}"])
        sizes[name], work[name] = counted(name)
        evaluations = instantiate({k: v for k, v in cfg.sampler.items() if k != "reuse"}).evaluations
        assert evaluations == 15, name
        assert (choices["data"], choices["metrics"]) == ("cifar", "offline"), name
        trainer = cfg.trainer
        shared.append(
            (
                dict(cfg.optimizer), trainer.max_steps, trainer.max_epochs, trainer.max_minutes,
                trainer.batch_size, trainer.precision, trainer.compile, trainer.gradient_clip,
                trainer.warmup_steps,
            )
        )  # fmt: skip
    assert len(SMALL) == 5
    assert all(values == shared[0] for values in shared)
    assert all(1.0 < size < 2.0 for size in sizes.values()), sizes
    assert all(0.08 < gmac < 0.19 for gmac in work.values()), work


def test_the_sweep_of_systems_runs_every_small_one():
    sweep = OmegaConf.load(CONF.parent / "sweeps" / "sweep" / "systems.yaml")
    assert sorted(sweep.hydra.sweeper.params.experiment.split(",")) == SMALL

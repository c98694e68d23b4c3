"""Every file in conf/ and sweeps/ composes, passes the preflight and builds; found by globbing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from composing import composed
from encoding import encoding, using
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from published import dino, vae

from dit_exp import checkpoint
from dit_exp.build import build, build_stage
from dit_exp.check import preflight
from dit_exp.task.cache import cache

PROJECT = Path(__file__).parents[1]
CHOICES = sorted(  # experiments have tests of their own
    path.relative_to(PROJECT / "conf")
    for path in (PROJECT / "conf").glob("*/*.yaml")
    if path.parent.name != "experiment"
)
TINY = ["data=digits", "tracker=none", "metrics=none", "model.width=32", "model.depth=1", "model.heads=4"]
# What a choice needs beside it.
COMPANIONS = {
    "process=flow": ["objective=v"],
    "process=gvp": ["objective=v"],
    "objective=edm": ["process=edm"],
    "grid=respaced": ["sampler.steps=45"],
    "objective=classification": ["model=classifier", "task=classifier"],
    "autoencoder=vq": ["task=autoencoder"],
    "autoencoder=vq_small": ["task=autoencoder"],
    "autoencoder=fsq": ["task=autoencoder"],
    "autoencoder=fsq_small": ["task=autoencoder"],
    "autoencoder=kl": ["task=autoencoder"],
    "task=autoencoder": ["autoencoder=fsq_small"],
    "perceptual=none": ["task=autoencoder", "autoencoder=fsq_small"],
    "perceptual=efficientnet": ["task=autoencoder", "autoencoder=fsq_small"],
    "perceptual=lpips": [
        "task=autoencoder",
        "autoencoder=fsq_small",
        "perceptual.vgg=vgg.pth",
        "perceptual.linear=lin.pth",
    ],
    "discriminator=none": ["task=autoencoder", "autoencoder=fsq_small"],
    "discriminator=patch": ["task=autoencoder", "autoencoder=fsq_small"],
    "edit=inpaint": ["task=edit", "edit.image=in.png", "edit.mask=[0,0,4,4]"],
    "edit=img2img": ["task=edit", "edit.image=in.png"],
    "edit=interpolate": ["task=edit"],
    "edit=interpolate_images": ["task=edit", "edit.image=in.png", "edit.other=other.png"],
    "probe=rademacher": ["task=likelihood"],
    "probe=gaussian": ["task=likelihood"],
    "task=edit": ["edit=interpolate"],
    "task=classifier": ["model=classifier", "objective=classification"],
    "task=report": ["task.sweep=runs/sweep"],
    "task=cache": ["task.path=latents"],
    "task=sample": [],
    "cond=none": ["attn=tmsa"],
    "cond=incontext": ["cond.start=0"],
    "task=scaling": ["task.sweep=runs/sweep"],
    "alignment=repa": ["teacher.image_size=32"],
    "teacher=efficientnet_lite0": ["alignment=repa", "teacher.image_size=32"],
}


# What is built for latents, here of 4x4.
LATENT = ("data=latents",)

# Guidances by a second network, and what that one is trained with.
SECOND = {
    "guidance=autoguidance": [],
    "guidance=classifier": ["task=classifier", "objective=classification", "model=classifier"],
}


def trained(folder: Path, *overrides: str) -> str:
    """A run directory with a checkpoint of untrained weights."""
    cfg, choices = composed([*overrides, "run_dir=null"])
    parts = build(cfg, choices, [], folder)
    state = {"config": parts.config, "choices": choices, "model": parts.model.state_dict(), "ema": None}
    checkpoint.save({**state, "step": 1, "images": 1}, checkpoint.path_of(folder, 1), keep=1)
    return str(folder)


def faces(folder: Path) -> None:
    """A parquet file of four small pictures, as data sets are published."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (40, 50), "red").save(buffer, "PNG")
    rows = [{"bytes": buffer.getvalue(), "path": None}] * 4
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 2, 3]}), folder / "train-0.parquet")


@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_every_choice_composes_passes_the_preflight_and_builds(path: Path, tmp_path: Path):
    choice = f"{path.parent}={path.stem}"
    tiny = [o for o in TINY if o.split("=")[0] != str(path.parent)]
    if choice in LATENT:
        cache(encoding(tmp_path / "encoding", *using("Halves")), str(tmp_path / "latents"))
        tiny += [f"data.root={tmp_path}/latents", "model.patch_size=2"]
    elif str(path.parent) == "data" and path.stem != "digits":
        faces(tmp_path)
        tiny.append(f"data.root={tmp_path}")
    if str(path.parent) == "model":
        tiny = TINY[:3]
    if choice in ("teacher=dinov2", "alignment=repa_ddt"):
        weights = dino(tmp_path / "dinov2_vits14_pretrain.pth")
        tiny += ["teacher.size=small", f"teacher.weights={weights}"]
        tiny += ["alignment=repa"] if choice == "teacher=dinov2" else ["alignment.depth=1"]
    if choice in SECOND:
        whose = [*TINY[:3], "model.width=32"] if SECOND[choice] else TINY
        tiny.append(f"guidance.checkpoint={trained(tmp_path / 'second', *whose, *SECOND[choice])}")
    if choice == "autoencoder=sd_vae":
        tiny.append(f"autoencoder.source={vae(tmp_path / 'vae')}")
    if "model=classifier" in COMPANIONS.get(choice, []):
        tiny = [*TINY[:3], "model.width=32"]
    cfg, choices = composed([*tiny, choice, *COMPANIONS.get(choice, [])])
    preflight(cfg)
    if str(path.parent) == "model":
        with torch.device("meta"):
            out = 0 if path.stem == "classifier" else 3
            model = instantiate(cfg.model)(input_shape=(3, 16, 16), out_channels=out, num_classes=10)
        assert next(model.parameters()).is_meta
        return
    if choices["task"] == "autoencoder":
        stage = build_stage(cfg, choices, [], tmp_path)
        assert stage.autoencoder.latent_shape(stage.data.image_shape)[0] == 4
        return
    parts = build(cfg, choices, [], tmp_path)
    assert parts.model.classifies or parts.model.null_label == (parts.data.num_classes or None)


def test_the_defaults_are_the_documented_ones():
    _, choices = composed([])
    assert choices == {
        "task": "train",
        "data": "cifar",
        "augment": "none",
        "autoencoder": "identity",
        "attn": "mha",
        "cond": "adaln",
        "model": "dit_s",
        "process": "linear",
        "timesteps": "uniform",
        "weighting": "none",
        "objective": "eps",
        "alignment": "none",
        "guidance": "none",
        "sampler": "ddim",
        "sampler.reuse": "none",
        "grid": "uniform",
        "optimizer": "adamw",
        "lr_schedule": "constant",
        "trainer": "default",
        "metrics": "offline",
        "tracker": "mlflow",
    }


@pytest.mark.parametrize("path", sorted((PROJECT / "sweeps").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_varies_keys_that_exist_over_values_that_pass(path: Path):
    sweep = OmegaConf.load(path)
    assert sweep.hydra.mode == "MULTIRUN"
    assert "Question:" in path.read_text()
    group, name = path.relative_to(PROJECT / "sweeps").with_suffix("").parts
    preflight(composed([f"+{group}={name}"])[0])
    for key, values in sweep.hydra.sweeper.params.items():
        for value in _tried(f"{key}={values}"):
            cfg, _ = composed([f"+{group}={name}", f"{key}={value}"])
            preflight(cfg)


def _tried(override: str) -> list[str]:
    """The values of an axis; the ends of an interval."""
    parsed = OverridesParser.create().parse_override(override)
    if parsed.is_interval_sweep():
        interval = parsed.value()
        return [str(interval.start), str(interval.end)]
    if parsed.is_sweep_override():
        return list(parsed.sweep_string_iterator())
    return [override.partition("=")[2]]


# What the choices of a room share, and the parts that one choice is made of.
SHARED = {
    "augment.edm.Geometry", "autoencoder.convolutional.Convolutional", "autoencoder.latents.Latents",
    "data.arrays.ArrayData", "data.arrays.ParquetData", "data.encoded.ClassFolders",
    "data.encoded.Encoded", "data.encoded.Shards", "data.feed.ArrayFeed", "data.feed.ShuffledFeed",
    "data.header.Header", "data.latents.LatentFeed", "data.resident.ResidentFeed",
    "data.streamed.StreamedData", "data.streamed.StreamedFeed",
    "edit.studio.Edit", "edit.studio.Studio",
    "guidance.classifier_free.ClassifierFree", "guidance.extrapolation.Extrapolation",
    "metrics.features.Extractor", "metrics.frechet.FrechetDistance", "metrics.reference.Reference",
    "model.blocks.Context", "model.stack.Stack",
    "objective.prediction.Prediction", "objective.reconstruction.Codebook",
    "objective.reconstruction.Discriminator", "objective.reconstruction.Perceptual",
    "objective.reconstruction.Reading", "objective.reconstruction.Reconstruction",
    "process.continuous.ContinuousProcess",
    "process.discrete.DiscreteProcess", "process.gaussian.GaussianProcess", "process.sde.LinearRate",
    "sampler.denoise.Denoise", "sampler.denoise.NetworkDenoiser", "sampler.reuse.network.Kept",
    "sampler.reuse.network.Run", "sampler.reuse.network.Silent", "sampler.reuse.network.Watched",
    "sampler.reuse.plan.Plan",
    "sampler.reuse.plan.Reuse", "sampler.reuse.plan.Sharing",
    "sampler.inversion.Inversion", "sampler.path.Path",
    "sampler.walk.Multistep", "sampler.walk.Sampler", "sampler.walk.Stop", "sampler.walk.Walk",
    "task.curve.Curve", "task.generate.Samples", "task.measure.Speed", "task.parts.Encoding",
    "task.parts.Parts", "task.parts.Setting", "task.parts.Stage", "task.reconstruct.Fidelity",
    "task.plan.Extra", "task.plan.Plan", "task.reuse.Plans", "timesteps.warp.Warp", "tracker.sender.Sender",
    "trainer.batch.Seen", "trainer.memory.PeakMemory", "trainer.profiling.Profile",
    "tracker.spool.Spool", "tracker.store.Refused", "tracker.store.Store", "trainer.history.History",
    "trainer.progress.Progress", "trainer.signals.StopRequest", "trainer.state.TrainState",
    "trainer.strategy.DataParallel", "trainer.strategy.FullyShard",
    "weighting.image.ImageWeighting",
}  # fmt: skip


def test_every_class_of_a_group_is_the_target_of_a_choice_or_shared():
    import ast

    targets = {
        node["_target_"].removeprefix("dit_exp.")
        for path in CHOICES
        for node in _nodes(OmegaConf.to_container(OmegaConf.load(PROJECT / "conf" / path), resolve=False))
    }
    groups = {str(path.parent) for path in CHOICES}
    package = PROJECT / "dit_exp"
    classes = {
        ".".join([*path.relative_to(package).with_suffix("").parts, node.name])
        for path in package.rglob("*.py")
        if ".".join(path.parent.relative_to(package).parts) in groups
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    assert classes - targets == SHARED


def _nodes(node: object) -> list[dict]:
    if not isinstance(node, dict):
        return []
    own = [node] if "_target_" in node else []
    return own + [inner for value in node.values() for inner in _nodes(value)]

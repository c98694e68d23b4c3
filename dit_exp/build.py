"""From a configuration to connected parts. The one place that instantiates, and that checks how parts relate.

Facts flow from objects: image size and classes come from the data, the latent's shape from the autoencoder,
output channels from the objective, the null label from the model.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dit_exp import checkpoint, parallel
from dit_exp.alignment.none import NoAlignment
from dit_exp.augment.none import NoAugmentation
from dit_exp.autoencoder.convolutional import Convolutional
from dit_exp.data.latents import Latents
from dit_exp.device import keep_freed_memory, resolve_device
from dit_exp.errors import UserError
from dit_exp.inherited import ENCODED_BY, MOVABLE, trained_autoencoder, with_checkpoint
from dit_exp.objective.prediction import Prediction
from dit_exp.sampler.denoise import NetworkDenoiser, on_process_time
from dit_exp.seeds import mix
from dit_exp.task.directory import PLACES
from dit_exp.task.parts import Encoding, Parts, Setting, Stage
from dit_exp.tracker.none import NoTracker
from dit_exp.types.data import Augment, Autoencoder, DataSet
from dit_exp.types.diffusion import LabelDenoiser, Process
from dit_exp.types.network import Model
from dit_exp.types.training import Alignment


def run(cfg: DictConfig) -> Any:
    """Builds what the configuration says and runs its task.

    The first argument of a task says what it is handed: `setting`, which reads what earlier runs have left,
    `encoding`, which reads data through an autoencoder, `stage`, which trains one, or all parts.
    """
    if "torch._dynamo" in sys.modules:
        import torch

        torch._dynamo.reset()  # runs of one process compile the same functions, of which it keeps eight forms
    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    choices = {
        group: choice
        for group, choice in hydra_config.runtime.choices.items()
        if "/" not in group and choice and OmegaConf.select(cfg, group) is not None
    }
    overrides = list(hydra_config.overrides.task)
    with naming("task"):
        task = instantiate(cfg.task)
    first = next(iter(inspect.signature(task).parameters))
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    if first == "setting":
        with naming("tracker"):
            return task(Setting(config, choices, overrides, run_dir, instantiate(config["tracker"])))
    if first == "encoding":
        config, device = _begin(cfg, run_dir)
        data, autoencoder = sources(config, choices, overrides, device)
        check_encoding(data, config, choices)
        return task(Encoding(config, choices, overrides, run_dir, NoTracker(), device, data, autoencoder))
    connect = build_stage if first == "stage" else build
    return task(connect(cfg, choices, overrides, run_dir))


def build_stage(cfg: DictConfig, choices: dict[str, str], overrides: list[str], run_dir: Path) -> Stage:
    """The parts that train an autoencoder. Raises UserError for parts that do not fit together."""
    config, device = _begin(cfg, run_dir)
    if config["checkpoint"] is not None:
        raise UserError(
            f"checkpoint= is not for task={choices['task']}. To go on with a run, pass its run_dir; to start "
            "from an autoencoder's weights, autoencoder.checkpoint=."
        )
    with naming("data"):
        data = instantiate(config["data"])
    check_encoding(data, config, choices)
    config["autoencoder"], choices["autoencoder"] = trained_autoencoder(config, choices, overrides)
    torch.manual_seed(mix("initial weights", config["seed"]))
    with naming("autoencoder"):
        autoencoder = instantiate(config["autoencoder"])
        if not isinstance(autoencoder, Convolutional):
            raise UserError(
                f"autoencoder={choices['autoencoder']} is not trained here. Choose autoencoder=vq, fsq or kl."
            )
        autoencoder.latent_shape(data.image_shape)
    return Stage(
        config=config,
        choices=choices,
        overrides=overrides,
        run_dir=run_dir,
        seed=config["seed"],
        device=device,
        data=data,
        autoencoder=autoencoder.to(device),
        **_tools(config),
    )


def _begin(cfg: DictConfig, run_dir: Path) -> tuple[dict[str, Any], torch.device]:
    """The configuration as plain values and the device; the processes of a run find each other."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config["run_dir"] = str(run_dir)
    if config["seed"] < 0:
        raise UserError(f"seed={config['seed']} must be 0 or more.")
    device = resolve_device(config["device"], parallel.start().local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    return config, device


def _tools(config: dict[str, Any], trains: bool = True) -> dict[str, Any]:
    """What every training needs besides its networks, by the names in task.parts.

    trains  whether the optimizer will be used, and is tried: a task on a checkpoint makes none
    """
    with naming("optimizer"):
        optimizer = instantiate(config["optimizer"])
        if trains:  # what it refuses, it refuses before any work is done
            optimizer([torch.zeros(1, requires_grad=True)])
    with naming("trainer"):
        trainer = instantiate(config["trainer"])
    with naming("metrics"):
        metrics = instantiate(config["metrics"])
    with naming("tracker"):
        tracker = instantiate(config["tracker"])
    return {
        "optimizer": optimizer,
        "trainer": trainer,
        "metrics": metrics,
        "tracker": tracker if parallel.world().main else NoTracker(),
    }


def build(cfg: DictConfig, choices: dict[str, str], overrides: list[str], run_dir: Path) -> Parts:
    """Instantiates and connects every part. Raises UserError for parts that do not fit together.

    Every process of a run calls it; the main one tracks.
    """
    config, device = _begin(cfg, run_dir)
    source, weights, stored = None, {}, {}
    if config["checkpoint"] is not None:
        path, stored = checkpoint.find(config["checkpoint"])
        config, choices = with_checkpoint(config, choices, overrides, stored)
        weights = stored["ema"] or stored["model"]
        source = {key: stored[key] for key in ("step", "images")} | {
            "path": str(path),
            "ema_decay": stored["config"]["trainer"]["ema_decay"],
        }

    data, autoencoder = sources(config, choices, overrides, device)
    identity = config[ENCODED_BY] = autoencoder.identity()
    before = stored["config"].get(ENCODED_BY, identity) if source is not None else identity
    if before != identity:
        raise UserError(
            f"checkpoint={cfg.checkpoint} was trained on latents of the autoencoder {before}, and this one "
            f"is {identity}. Pass the one it was trained on, as autoencoder.checkpoint=RUN_DIR or "
            "autoencoder.source=FOLDER."
        )
    trained_on = data if source is None else data_of(stored, config, data, f"checkpoint={cfg.checkpoint}")
    process, objective, augment, model = network_of(
        config, autoencoder, trained_on, device, source is not None
    )
    with naming("task"):
        trains_classifier = choices["task"] == "classifier"
        if not trains_classifier == model.classifies == (objective.outputs == 0):
            raise ValueError(
                f"task={choices['task']}, model={choices['model']} and objective={choices['objective']} do "
                "not go together. A classifier is trained with task=classifier model=classifier "
                "objective=classification, and anything else with none of the three."
            )
    if source is not None:
        checkpoint.load_weights(model, weights, Path(source["path"]))
    guide = None
    with naming("guidance"):
        facts: dict[str, Any] = {"null_label": model.null_label}
        if "checkpoint" in config["guidance"]:
            facts["checkpoint"], guide = second_network(config, autoencoder, data, device)
        guidance = instantiate(config["guidance"])(**facts)
    with naming("sampler"):
        sampler = instantiate({key: v for key, v in config["sampler"].items() if key != "reuse"})
    with naming("grid"):
        grid = instantiate(config["grid"])
        grid(process, sampler.steps)  # what it refuses, it refuses before any work is done
    alignment: Alignment = NoAlignment()
    if source is None:  # who taught a trained network is not needed to sample from it
        with naming("alignment"):
            aligning = instantiate(config["alignment"])
            torch.manual_seed(mix("initial projector", config["seed"]))
            alignment = aligning(model=model, channels=data.image_shape[0]).to(device)
        if not isinstance(augment, NoAugmentation):
            check_images(data, f"augment={choices['augment']}")
        if not isinstance(alignment, NoAlignment):
            check_images(data, f"alignment={choices['alignment']}")
    with naming("sampler.reuse"):
        reuse = instantiate(config["sampler"]["reuse"])
        blank = torch.zeros(1, *autoencoder.latent_shape(data.image_shape), device=device)
        label = torch.zeros(1, dtype=torch.long, device=device) if data.num_classes else None
        reuse.check(model, blank, blank.new_ones(1), label)
    return Parts(
        config=config,
        choices=choices,
        overrides=overrides,
        run_dir=run_dir,
        seed=config["seed"],
        device=device,
        data=data,
        augment=augment,
        autoencoder=autoencoder,
        model=model,
        process=process,
        objective=objective,
        alignment=alignment,
        guidance=guidance,
        guide=guide,
        sampler=sampler,
        reuse=reuse,
        grid=grid,
        source=source,
        **_tools(config, trains=source is None),
    )


def sources(
    config: dict[str, Any], choices: dict[str, str], overrides: list[str], device: torch.device
) -> tuple[DataSet, Autoencoder]:
    """The data, and the autoencoder on the device, whose configuration and choice are entered where another
    run or a cache brings them.

    Latents bring the autoencoder that made them, unless a checkpoint or the command line names one, and are
    told how to make the data set whose images they were. Raises UserError where the autoencoder is not the
    latents', and for one without weights.
    """
    with naming("data"):
        data = instantiate(config["data"])
    given = {override.lstrip("+").partition("=")[0].partition(".")[0] for override in overrides}
    if isinstance(data, Latents) and config["checkpoint"] is None and "autoencoder" not in given:
        made_by = data.header.autoencoder
        config["autoencoder"], choices["autoencoder"] = made_by["config"], made_by["choice"]
    else:
        config["autoencoder"], choices["autoencoder"] = trained_autoencoder(config, choices, overrides)
    with naming("autoencoder"):
        try:
            autoencoder = instantiate(config["autoencoder"])
        except InstantiationException as error:
            if not isinstance(data, Latents):
                raise
            raise UserError(
                f"The autoencoder that data.root={data.root} was encoded by cannot be built: "
                f"{error.__cause__ or error}\nWhere it lies elsewhere, pass "
                "autoencoder.checkpoint=RUN_DIR, or autoencoder=sd_vae autoencoder.source=FOLDER."
            ) from error
    if isinstance(data, Latents):
        data.check_autoencoder(autoencoder)
        original = data.original_config()
        data.original = lambda: instantiate(original)
    if isinstance(autoencoder, Convolutional) and not autoencoder.measured:
        raise UserError(
            f"autoencoder={choices['autoencoder']} has no weights for task={choices['task']}. Train it with "
            "task=autoencoder first, then pass autoencoder.checkpoint=RUN_DIR."
        )
    module: Any = autoencoder
    if isinstance(module, nn.Module):
        module.to(device).eval().requires_grad_(False)
    return data, autoencoder


def check_images(data: DataSet, what: str) -> None:
    """Raises UserError for what needs images where the data are a cache of latents, which holds none."""
    if isinstance(data, Latents):
        raise UserError(
            f"{what} needs images, and data.root={data.root} holds latents alone. Leave it out, or pass the "
            f"images that the latents are of: data={data.header.data['choice']} with the same autoencoder."
        )


def check_encoding(data: DataSet, config: dict[str, Any], choices: dict[str, str]) -> None:
    """Raises UserError where images are to be encoded and there are none, and for what is done to a model's
    training alone, which would be left undone.
    """
    task = f"task={choices['task']}"
    check_images(data, task)
    for group, none in (("augment", NoAugmentation), ("alignment", NoAlignment)):
        if get_class(config[group]["_target_"]) is not none:
            raise UserError(
                f"{group}={choices[group]} is for the training of a model, and {task} would do nothing with "
                "it. Leave it out."
            )


def network_of(
    config: dict[str, Any], autoencoder: Autoencoder, data: DataSet, device: torch.device, trained: bool
) -> tuple[Process, Prediction, Augment, Model]:
    """The parts of a configuration that are trained together, on the device, with weights from its seed.

    data     whose images the model is built for
    trained  whether weights follow, so that those of model.checkpoint are not read
    """
    with naming("process"):
        process = instantiate(config["process"]).to(device)
    with naming("objective"):
        objective = instantiate(config["objective"])(process=process).to(device)
    latent_shape = autoencoder.latent_shape(data.image_shape)
    torch.manual_seed(mix("initial weights", config["seed"]))
    with naming("model"):
        facts: dict[str, Any] = {
            "input_shape": latent_shape,
            "out_channels": latent_shape[0] * objective.outputs,
            "num_classes": data.num_classes,
        }
        if config["model"].get("checkpoint") is not None:
            facts["checkpoint"] = None if trained else checkpoint.published(config["model"]["checkpoint"])
        model = instantiate(config["model"])(**facts)
    with naming("augment"):
        # a run of a time before the group was there has none
        augment = instantiate(config["augment"]) if "augment" in config else NoAugmentation()
        if augment.entries:
            model.add_augmentation(augment.entries)
    return process, objective, augment, model.to(device)


def second_network(
    config: dict[str, Any], autoencoder: Autoencoder, data: DataSet, device: torch.device
) -> tuple[LabelDenoiser, Model]:
    """The network of guidance.checkpoint as a denoiser and as it is; its size and prediction may be others.

    Raises UserError where it was trained on another process or autoencoder, or on other shapes or classes.
    """
    where = config["guidance"]["checkpoint"]
    path, stored = checkpoint.find(str(where))
    for group in ("process", "autoencoder"):
        theirs, ours = stored["config"][group], config[group]
        different = [
            f"{group}.{key}={theirs.get(key)} there, {ours.get(key)} here"
            for key in sorted((theirs.keys() | ours.keys()) - set(PLACES))
            if theirs.get(key) != ours.get(key) and f"{group}.{key}" not in MOVABLE
        ]
        if different:
            raise UserError(
                f"guidance.checkpoint={where} was trained with another {group}: {'; '.join(different)}. Pass "
                f"a run whose {group} is that of the guided network."
            )
    trained_on = data_of(stored, config, data, f"guidance.checkpoint={where}")
    process, objective, _, model = network_of(stored["config"], autoencoder, trained_on, device, trained=True)
    checkpoint.load_weights(model, stored["ema"] or stored["model"], path)
    return NetworkDenoiser(on_process_time(model.eval(), process), objective), model


def data_of(stored: dict[str, Any], config: dict[str, Any], data: DataSet, where: str) -> DataSet:
    """What a checkpoint was trained on, whose image size may be another: a model of one size draws others.

    Where it lies is what the configuration says. Raises UserError for another number of channels or classes.
    """
    node, here = stored["config"]["data"], config["data"]
    if node["_target_"] == here["_target_"]:
        node = node | {key: here[key] for key in PLACES if key in node}
    with naming("data"):
        theirs = instantiate(node)
    for what, a, b in (
        ("channels", theirs.image_shape[0], data.image_shape[0]),
        ("classes", theirs.num_classes, data.num_classes),
    ):
        if a != b:
            raise UserError(
                f"{where} was trained on images of {a} {what}, and those of this data have {b}. Choose the "
                "data that it was trained on, of any size."
            )
    return theirs


@contextmanager
def naming(node: str) -> Iterator[None]:
    """Turns what a constructor refuses into a message that names the configuration's node."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, ValueError):
            raise UserError(f"{cause} (from the group {node})") from error
        raise
    except ValueError as error:
        raise UserError(f"{error} (from the group {node})") from error

"""From a configuration to connected parts. The one place that instantiates, and that checks how parts relate.

Facts flow from objects: image size and classes come from the data, the latent's shape from the autoencoder,
output channels from the objective, the null label from the model.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dit_exp import checkpoint, parallel
from dit_exp.alignment.none import NoAlignment
from dit_exp.augment.none import NoAugmentation
from dit_exp.autoencoder.identity import Identity
from dit_exp.data.latents import Latents
from dit_exp.device import resolve_device
from dit_exp.errors import UserError
from dit_exp.objective.prediction import Prediction
from dit_exp.sampler.denoise import NetworkDenoiser, on_process_time
from dit_exp.seeds import mix
from dit_exp.task.directory import PLACES
from dit_exp.task.parts import Encoding, Parts, Setting
from dit_exp.tracker.none import NoTracker
from dit_exp.types.data import Augment, Autoencoder, DataSet
from dit_exp.types.diffusion import LabelDenoiser, Process
from dit_exp.types.network import Model
from dit_exp.types.training import Alignment

FIXED = (
    "model", "attn", "cond", "process", "timesteps", "weighting", "objective", "alignment", "autoencoder",
    "augment",
)  # fmt: skip
"""What a trained model is made of; a checkpoint brings it and nothing overrides it."""

MOVABLE = ("autoencoder.checkpoint", "autoencoder.root", "autoencoder.repo")
"""Where the autoencoder lies, which may change: what it is, its identity tells."""

ENCODED_BY = "autoencoder_identity"
"""The key of a run's configuration for the identity of its autoencoder."""


def run(cfg: DictConfig) -> Any:
    """Builds what the configuration says and runs its task.

    A task whose first argument is `setting` reads what earlier runs have left, and one whose first is
    `encoding` reads data through an autoencoder: no model is built for them.
    """
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
        device = resolve_device(config["device"], parallel.start().local_rank)
        data, autoencoder = sources(config, choices, device)
        return task(Encoding(config, choices, overrides, run_dir, NoTracker(), device, data, autoencoder))
    return task(build(cfg, choices, overrides, run_dir))


def build(cfg: DictConfig, choices: dict[str, str], overrides: list[str], run_dir: Path) -> Parts:
    """Instantiates and connects every part. Raises UserError for parts that do not fit together.

    Every process of a run calls it; the main one tracks.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config["run_dir"] = str(run_dir)
    if config["seed"] < 0:
        raise UserError(f"seed={config['seed']} must be 0 or more.")
    here = parallel.start()
    device = resolve_device(config["device"], here.local_rank)
    source, weights, stored = None, {}, {}
    if config["checkpoint"] is not None:
        path, stored = checkpoint.find(config["checkpoint"])
        config, choices = with_checkpoint(config, choices, overrides, stored)
        weights = stored["ema"] or stored["model"]
        source = {key: stored[key] for key in ("step", "images")} | {
            "path": str(path),
            "ema_decay": stored["config"]["trainer"]["ema_decay"],
        }

    data, autoencoder = sources(config, choices, device)
    config[ENCODED_BY] = autoencoder.identity()
    if (
        source is not None
        and (theirs := stored["config"].get(ENCODED_BY, config[ENCODED_BY])) != config[ENCODED_BY]
    ):
        raise UserError(
            f"checkpoint={cfg.checkpoint} was trained on latents of another autoencoder: {theirs} there, "
            f"{config[ENCODED_BY]} here. Pass autoencoder.checkpoint= of the one it was trained with."
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
    if source is None and isinstance(data, Latents):
        check_cached(data, choices, augment)
    if source is not None:
        checkpoint.load_weights(model, weights, Path(source["path"]))
    with naming("guidance"):
        facts: dict[str, Any] = {"null_label": model.null_label}
        if "checkpoint" in config["guidance"]:
            facts["checkpoint"] = second_network(config, autoencoder, data, device)
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
    with naming("sampler.reuse"):
        reuse = instantiate(config["sampler"]["reuse"])
        blank = torch.zeros(1, *autoencoder.latent_shape(data.image_shape), device=device)
        label = torch.zeros(1, dtype=torch.long, device=device) if data.num_classes else None
        reuse.check(model, blank, blank.new_ones(1), label)
    with naming("optimizer"):
        optimizer = instantiate(config["optimizer"])
        optimizer([torch.zeros(1, requires_grad=True)])  # what it refuses, it refuses before any work is done
    with naming("trainer"):
        trainer = instantiate(config["trainer"])
    with naming("metrics"):
        metrics = instantiate(config["metrics"])
    with naming("tracker"):
        tracker = instantiate(config["tracker"])
    return Parts(
        config,
        choices,
        overrides,
        run_dir,
        tracker if here.main else NoTracker(),
        config["seed"],
        device,
        data,
        augment,
        autoencoder,
        model,
        process,
        objective,
        alignment,
        guidance,
        sampler,
        reuse,
        grid,
        optimizer,
        trainer,
        metrics,
        source,
    )


def sources(
    config: dict[str, Any], choices: dict[str, str], device: torch.device
) -> tuple[DataSet, Autoencoder]:
    """The data, and the autoencoder on the device.

    Latents bring the autoencoder that made them, unless the configuration names one, and both are entered in
    it; they are told how to make the data set whose images they were. Raises UserError where the autoencoder
    is not the latents'.
    """
    with naming("data"):
        data = instantiate(config["data"])
    with naming("autoencoder"):
        autoencoder = instantiate(config["autoencoder"])
        if isinstance(data, Latents):
            made_by, original = data.header.autoencoder, data.original_config()
            if isinstance(autoencoder, Identity):
                config["autoencoder"], choices["autoencoder"] = made_by["config"], made_by["choice"]
                try:
                    autoencoder = instantiate(config["autoencoder"])
                except InstantiationException as error:
                    raise UserError(
                        f"The autoencoder that data.root={data.root} was encoded by cannot be built: "
                        f"{error.__cause__ or error}\nWhere it lies elsewhere, pass "
                        f"autoencoder={made_by['choice']} with its place."
                    ) from error
            data.check_autoencoder(autoencoder)
            data.original = lambda: instantiate(original)
    module: Any = autoencoder
    if isinstance(module, nn.Module):
        module.to(device).eval().requires_grad_(False)
    return data, autoencoder


def check_cached(data: Latents, choices: dict[str, str], augment: Augment) -> None:
    """Raises UserError for what needs images in training, of which a cache of latents holds none."""
    for group, what, off in (
        ("augment", "augmented", isinstance(augment, NoAugmentation)),
        ("alignment", "shown to a teacher", choices["alignment"] == "none"),
    ):
        if not off:
            raise UserError(
                f"{group}={choices[group]} needs images, and data.root={data.root} holds latents, which "
                f"cannot be {what}. Use {group}=none, or train on the images themselves with "
                f"data={data.header.data['choice']} autoencoder={data.header.autoencoder['choice']}."
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
) -> LabelDenoiser:
    """The network of guidance.checkpoint, which may be of another size and prediction.

    Raises UserError where it was trained on another process or autoencoder, or on other shapes or classes.
    """
    where = config["guidance"]["checkpoint"]
    path, stored = checkpoint.find(str(where))
    for group in ("process", "autoencoder"):
        theirs, ours = stored["config"][group], config[group]
        different = [
            f"{group}.{key}={theirs.get(key)} there, {ours.get(key)} here"
            for key in sorted((theirs.keys() | ours.keys()) - set(PLACES))
            if theirs.get(key) != ours.get(key)
        ]
        if different:
            raise UserError(
                f"guidance.checkpoint={where} was trained with another {group}: {'; '.join(different)}. Pass "
                f"a run whose {group} is that of the guided network."
            )
    trained_on = data_of(stored, config, data, f"guidance.checkpoint={where}")
    process, objective, _, model = network_of(stored["config"], autoencoder, trained_on, device, trained=True)
    checkpoint.load_weights(model, stored["ema"] or stored["model"], path)
    return NetworkDenoiser(on_process_time(model.eval(), process), objective)


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


def with_checkpoint(
    config: dict[str, Any], choices: dict[str, str], overrides: list[str], source: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration and choices of a checkpoint, changed where the command line says so.

    A group that the command line chooses is taken from it; of another one single keys are changed. The
    tracker is the command line's. The groups in FIXED stay: raises UserError that lists what disagrees.
    """
    given = [override.lstrip("+").split("=", 1)[0] for override in overrides]
    if "experiment" in given:
        raise UserError("checkpoint= brings its own experiment. Leave experiment= out.")
    stored, stored_choices = source["config"], source["choices"]
    merged, kept, wrong = dict(config), dict(choices), []
    for group in stored_choices.keys() & config.keys() - {"task", "tracker"}:
        if group in given and group not in FIXED:
            continue
        merged[group], kept[group] = copy.deepcopy(stored[group]), stored_choices[group]
        for key in sorted(given):  # a part that is chosen inside a group before that part's keys
            if key == group:
                before, now = stored_choices[group], choices[group]
            elif key.startswith(f"{group}."):
                before, now = _select(stored, key), _select(config, key)
            else:
                continue
            if group not in FIXED:
                *path, last = key.split(".")
                _select(merged, ".".join(path))[last] = now
            elif key in MOVABLE:
                merged[group][key.partition(".")[2]] = now
            elif before != now:
                wrong.append(f"{key}={now} on the command line, {before} in the checkpoint")
    for name in choices.keys() - config.keys():  # chosen inside a group, as sampler.reuse
        group, _, key = name.partition(".")
        if not {name, group} & set(given):
            kept[name] = stored_choices.get(name, choices[name])
            merged[group].setdefault(key, config[group][key])  # runs older than the choice
    for node in merged.values():  # where things lie on this machine, not on the one that trained
        if isinstance(node, dict):
            node |= {key: config[key] for key in ("cache", "device") if key in node and key not in given}
    if wrong:
        raise UserError(
            f"checkpoint={config['checkpoint']} was trained otherwise:\n  " + "\n  ".join(wrong) + "\n"
            f"Leave these out: {', '.join(FIXED)} come from the checkpoint."
        )
    return merged, kept


def _select(config: dict[str, Any], key: str) -> Any:
    """The value at a dotted key, or None."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node

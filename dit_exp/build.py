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

from dit_exp import checkpoint, parallel
from dit_exp.autoencoder.convolutional import Convolutional
from dit_exp.autoencoder.latents import Latents
from dit_exp.device import resolve_device
from dit_exp.errors import UserError
from dit_exp.objective.prediction import Prediction
from dit_exp.sampler.denoise import NetworkDenoiser, on_process_time
from dit_exp.seeds import mix
from dit_exp.task.directory import PLACES
from dit_exp.task.parts import Parts, Setting, Stage
from dit_exp.tracker.none import NoTracker
from dit_exp.types import Autoencoder, DataSet, LabelDenoiser, Model, Process

FIXED = ("model", "attn", "cond", "process", "timesteps", "weighting", "objective", "autoencoder")
"""What a trained model is made of; a checkpoint brings it and nothing overrides it."""

MOVABLE = ("autoencoder.checkpoint", "autoencoder.source")
"""Where weights lie, which may be moved; whether they are the same is checked by their identity."""


def run(cfg: DictConfig) -> Any:
    """Builds what the configuration says and runs its task.

    A task whose first argument is `setting` reads what earlier runs have left, and nothing is built for it;
    for one whose first is `stage` everything but a model and what goes with it.
    """
    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    choices = {k: v for k, v in hydra_config.runtime.choices.items() if "/" not in k and k in cfg and v}
    overrides = list(hydra_config.overrides.task)
    with naming("task"):
        task = instantiate(cfg.task)
    if "setting" in inspect.signature(task).parameters:
        config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        with naming("tracker"):
            return task(Setting(config, choices, overrides, run_dir, instantiate(config["tracker"])))
    connect = build_stage if "stage" in inspect.signature(task).parameters else build
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
    config, choices = with_autoencoder(config, choices, overrides)
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
    return config, resolve_device(config["device"], parallel.start().local_rank)


def _tools(config: dict[str, Any]) -> dict[str, Any]:
    """What every training needs besides its networks, by the names in task.parts."""
    with naming("optimizer"):
        optimizer = instantiate(config["optimizer"])
        optimizer([torch.zeros(1, requires_grad=True)])  # what it refuses, it refuses before any work is done
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

    with naming("data"):
        data = instantiate(config["data"])
    config, choices = with_autoencoder(config, choices, overrides)
    autoencoder = autoencoder_of(config, choices, stored, device)
    trained_on = data if source is None else data_of(stored, data, f"checkpoint={cfg.checkpoint}")
    process, objective, model = network_of(config, autoencoder, trained_on, device, source is not None)
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
    with naming("guidance"):
        facts: dict[str, Any] = {"null_label": model.null_label}
        if "checkpoint" in config["guidance"]:
            facts["checkpoint"] = second_network(config, autoencoder, data, device)
        guidance = instantiate(config["guidance"])(**facts)
    with naming("sampler"):
        sampler = instantiate(config["sampler"])
    with naming("grid"):
        grid = instantiate(config["grid"])
        grid(process, sampler.steps)  # what it refuses, it refuses before any work is done
    return Parts(
        config=config,
        choices=choices,
        overrides=overrides,
        run_dir=run_dir,
        seed=config["seed"],
        device=device,
        data=data,
        autoencoder=autoencoder,
        model=model,
        process=process,
        objective=objective,
        guidance=guidance,
        sampler=sampler,
        grid=grid,
        source=source,
        **_tools(config),
    )


def with_autoencoder(
    config: dict[str, Any], choices: dict[str, str], overrides: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration with the autoencoder that autoencoder.checkpoint names, which brings its own choice.

    Raises UserError that lists what the command line says otherwise.
    """
    where = config["autoencoder"].get("checkpoint")
    if where is None:
        return config, choices
    _, stored = checkpoint.autoencoder(where)
    theirs, name = stored["config"]["autoencoder"], stored["choices"]["autoencoder"]
    given = {override.lstrip("+").split("=", 1)[0] for override in overrides}
    wrong = [
        f"{key}: {config['autoencoder'].get(key.partition('.')[2])} on the command line"
        for key in sorted(given - {"autoencoder.checkpoint"})
        if key.startswith("autoencoder.")
        and theirs.get(key.partition(".")[2]) != config["autoencoder"].get(key.partition(".")[2])
    ]
    if "autoencoder" in given and choices["autoencoder"] != name:
        wrong.append(f"autoencoder: {choices['autoencoder']} on the command line, {name} there")
    if wrong:
        raise UserError(
            f"autoencoder.checkpoint={where} was trained otherwise:\n  " + "\n  ".join(wrong) + "\n"
            "Leave these out: a trained autoencoder brings its own settings."
        )
    node = {**theirs, "checkpoint": where}
    return {**config, "autoencoder": node}, {**choices, "autoencoder": name}


def autoencoder_of(
    config: dict[str, Any], choices: dict[str, str], stored: dict[str, Any], device: torch.device
) -> Autoencoder:
    """The autoencoder with its weights, on the device; its identity is kept in the configuration.

    stored  the model's checkpoint, or nothing
    Raises UserError for one without weights, and for another than the model was trained with.
    """
    with naming("autoencoder"):
        autoencoder = instantiate(config["autoencoder"])
    if not isinstance(autoencoder, Latents):
        return autoencoder
    if isinstance(autoencoder, Convolutional) and not autoencoder.measured:
        raise UserError(
            f"autoencoder={choices['autoencoder']} has no weights for task={choices['task']}. Train it with "
            "task=autoencoder first, then pass autoencoder.checkpoint=RUN_DIR."
        )
    config["autoencoder_identity"] = autoencoder.identity()
    before = stored["config"].get("autoencoder_identity") if stored else None
    if before not in (None, config["autoencoder_identity"]):
        raise UserError(
            f"checkpoint={config['checkpoint']} was trained on latents of the autoencoder {before}, and "
            f"this one is {config['autoencoder_identity']}. Pass the one it was trained on, as "
            "autoencoder.checkpoint=RUN_DIR or autoencoder.source=FOLDER."
        )
    return autoencoder.to(device).requires_grad_(False).eval()


def network_of(
    config: dict[str, Any], autoencoder: Autoencoder, data: DataSet, device: torch.device, trained: bool
) -> tuple[Process, Prediction, Model]:
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
        model = instantiate(config["model"])(**facts).to(device)
    return process, objective, model


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
    trained_on = data_of(stored, data, f"guidance.checkpoint={where}")
    process, objective, model = network_of(stored["config"], autoencoder, trained_on, device, trained=True)
    checkpoint.load_weights(model, stored["ema"] or stored["model"], path)
    return NetworkDenoiser(on_process_time(model.eval(), process), objective)


def data_of(stored: dict[str, Any], data: DataSet, where: str) -> DataSet:
    """What a checkpoint was trained on, whose image size may be another: a model of one size draws others.

    Raises UserError for another number of channels or classes.
    """
    with naming("data"):
        theirs = instantiate(stored["config"]["data"])
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
        for key in given:
            if key == group:
                before, now = stored_choices[group], choices[group]
            elif key.startswith(f"{group}."):
                before, now = _select(stored, key), _select(config, key)
            else:
                continue
            if group not in FIXED or key in MOVABLE:
                *path, last = key.split(".")
                _select(merged, ".".join(path))[last] = now
            elif before != now:
                wrong.append(f"{key}={now} on the command line, {before} in the checkpoint")
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

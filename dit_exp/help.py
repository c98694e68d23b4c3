"""The help of the command line: groups with their choices, the keys most used, examples.

Read from the names in conf/, without Hydra, whose own listing copies its configuration for every group.
"""

from __future__ import annotations

from pathlib import Path

TEXT = """\
dit_exp: experiments with Diffusion Transformers. Compose, train, sample, score, compare.

Use: python run.py [GROUP=CHOICE ...] [KEY=VALUE ...]

Groups and their choices (* is the default):

{groups}
Keys that are set most often (python run.py --cfg job shows them all):
  seed  run_dir  checkpoint  data.root  data.image_size
  model.depth  model.width  model.heads  model.patch_size  optimizer.lr
  trainer.max_steps  trainer.max_epochs  trainer.max_minutes  trainer.batch_size  trainer.precision
  sampler.steps  guidance.scale  metrics.num_samples  tracker.uri

Examples:
  python run.py experiment=digits
      train a small model on data that needs no files, draw samples, score them
  python run.py model=dit_b attn=gqa data=cifar data.root=DIR trainer.precision=bf16
      another model and attention, on CIFAR-10 in DIR
  python run.py -m cond=adaln,token seed=0,1,2 data=digits
      every combination, a run each
  python run.py task=sample checkpoint=RUN_DIR guidance=cfg guidance.scale=3 task.num_images=100
      images from a trained model
  python run.py task=evaluate checkpoint=RUN_DIR sampler=ddpm metrics.num_samples=5000
      its score with another sampler
  python run.py task=edit checkpoint=RUN_DIR edit=inpaint edit.image=FILE.png edit.mask=[4,4,12,12]
      a hole in a picture filled

Sweeps in sweeps/ are run by name: python run.py +sweep={sweeps}
Groups on a search path of your own (hydra.searchpath=[file://DIR]) work too but are not listed.
Hydra's own flags: python run.py --hydra-help
"""


def help_text(project: Path) -> str:
    """The help for the configuration in `project`/conf and the sweeps in `project`/sweeps."""
    conf = project / "conf"
    defaults = _defaults(conf / "config.yaml")
    whose: dict[str, str] = {}
    for path in sorted(conf.glob("*/*.yaml")):
        for key, choice in _defaults(path).items():
            group, at, _ = key.removeprefix("/").partition("@")
            if at and key.startswith("/"):  # /edit@_global_.edit: a group of this choice alone
                defaults[group], whose[group] = choice, f" ({path.parent.name}={path.stem} alone)"
    lines = []
    for group in defaults:
        files = (path.relative_to(conf / group) for path in (conf / group).rglob("*.yaml"))
        names = sorted(str(file.with_suffix("")) for file in files)  # experiments lie in folders, too
        marked = (f"{name}*" if name == defaults[group] else name for name in names)
        lines.append(f"  {group + ':':16}{', '.join(marked)}{whose.get(group, '')}\n")
    sweeps = ",".join(sorted(path.stem for path in (project / "sweeps" / "sweep").glob("*.yaml")))
    return TEXT.format(groups="".join(lines), sweeps=sweeps)


def _defaults(path: Path) -> dict[str, str]:
    """The choices in a config file's defaults list."""
    import yaml

    chosen: dict[str, str] = {}
    for entry in yaml.safe_load(path.read_text()).get("defaults", []):
        if isinstance(entry, dict):
            chosen |= entry
    return chosen

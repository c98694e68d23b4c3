"""The house: who imports whom, where things lie, what stays small and what stays light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from composing import composed
from omegaconf import OmegaConf

PACKAGE = Path(__file__).parents[1] / "dit_exp"
FILES = sorted(PACKAGE.rglob("*.py"))

# A file imports from lower floors or its own folder.
FLOORS = (
    ("errors",),
    ("messages", "revision", "check"),
    ("types", "images", "seeds", "device"),
    ("parallel",),
    ("sharded",),
    ("nn", "checkpoint", "ema", "weighting", "pretrained", "augment"),
    ("model", "attn", "cond", "autoencoder", "discriminator", "process", "timesteps", "objective",
     "data", "tracker"),
    ("sampler", "grid", "guidance", "metrics", "probe", "alignment", "teacher", "lr_schedule", "perceptual"),
    ("trainer", "optimizer", "sweep", "scaling", "edit"),
    ("report", "inherited"),
    ("task",),
    ("build", "cli", "help"),
)  # fmt: skip
LIBRARY = (
    "nn", "attn", "cond", "model", "process", "timesteps", "weighting", "objective", "sampler", "grid",
    "guidance", "probe", "alignment", "augment", "lr_schedule",
)  # fmt: skip
OUTSIDE = {"hydra", "omegaconf", "mlflow", "pathlib", "os", "io", "shutil", "tempfile"}
LATE = {
    "mlflow", "torch_fidelity", "timm", "sklearn", "PIL", "matplotlib", "pyarrow", "diffusers", "tqdm",
    "huggingface_hub", "scipy", "torchvision", "jinja2", "vector_quantize_pytorch", "loguru",
}  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path, late: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if late else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_come_from_lower_floors_or_the_own_folder(path: Path):
    if path.name == "__init__.py":
        assert path.read_text() == ""
        return
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "dit_exp" and len(parts) > 1 and parts[1] != own:
            assert floor(parts[1]) < floor(own) or own == "cli", f"{own}/{path.name} imports {name}"


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_rooms_know_nothing_of_files_and_configuration(name: str):
    for path in (PACKAGE / name).rglob("*.py"):
        tops = {imported.split(".")[0] for imported in imports(path)}
        assert not tops & OUTSIDE, f"{path.name} imports {tops & OUTSIDE}"


def test_only_the_entrance_imports_hydra():
    users = {room(p) for p in FILES if any(i.split(".")[0] == "hydra" for i in imports(p))}
    assert users <= {"build", "check", "cli", "messages", "sweep"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path):
    tops = {name.split(".")[0] for name in imports(path, late=False)}
    assert not tops & LATE


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_below_400_lines(path: Path):
    assert len(path.read_text().splitlines()) <= 400


def test_conf_mirrors_the_package(project: Path):
    groups = {p.name for p in (project / "conf").iterdir() if p.is_dir()} - {"experiment", "hydra"}
    beside = {"nn", "types", "pretrained", "sweep", "scaling", "report", "__pycache__"}
    folders = [p.relative_to(PACKAGE).parts for p in PACKAGE.rglob("*") if p.is_dir()]
    assert groups == {".".join(parts) for parts in folders if not beside & set(parts)}
    always = composed([])[1]
    for path in (project / "conf").glob("*/*.yaml"):
        if path.parent.name in groups:
            target = OmegaConf.load(path).get("_target_")  # type: ignore[union-attr]
            if target is None:  # it is another choice's
                plus = "" if path.parent.name in always else "+"  # a group of one task alone
                cfg = composed([f"{plus}{path.parent.name}={path.stem}"])[0]
                target = OmegaConf.select(cfg, path.parent.name)["_target_"]
            assert target.startswith(f"dit_exp.{path.parent.name}."), path


def test_every_choice_says_what_it_is(project: Path):
    for path in [*(project / "conf").rglob("*.yaml"), *(project / "sweeps").rglob("*.yaml")]:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# "), path
        assert len(lines[0]) > 20, path


def test_no_file_names_a_registry(project: Path):
    for name in ("requirements.lock", "pyproject.toml", "Makefile"):
        text = (project / name).read_text()
        assert "index-url =" not in text
        for line in text.splitlines():
            assert "://" not in line or "127.0.0.1" in line or "sqlite:///" in line, f"{name}: {line}"

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from inspect import Parameter
from pathlib import Path
from pydoc import locate

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dit_exp.check import accepts, preflight, signature
from dit_exp.errors import UserError

CONF = Path(__file__).parents[1] / "conf"
TARGETS = sorted(
    {
        target
        for file in CONF.glob("**/*.yaml")
        if file.relative_to(CONF).parts[0] != "hydra"  # which the preflight leaves to Hydra
        for target in [OmegaConf.select(OmegaConf.load(file), "_target_")]
        if target is not None
    }
)
PARTS = """
    import houses_that_do_not_exist
    from collections.abc import Callable
    from dataclasses import dataclass, field
    from typing import ClassVar, Literal

    from .base import Base

    class Block(Base):
        def __init__(self, width: int, rate: float = 0.1, norm: Literal["rms", "layer"] = "rms",
                     name: str | None = None, spread: tuple[float, float] = (0.0, 1.0),
                     attn: Callable[[int], object] | None = None, clip: bool = False) -> None: ...

    class Inherits(Base): ...

    class Bare: ...

    @dataclass
    class Loader:
        kind: ClassVar[str] = "x"
        root: str
        workers: int = 2
        ratios: list[float] = field(default_factory=list)
        count: int = field(init=False, default=0)

    @dataclass
    class Cached(Loader):
        cache: str = "c"

    def draw(parts, /, steps: int, *, eta: float = 0.0, **rest: object) -> None: ...
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A package `parts_house` whose module cannot be imported: only its source can be read."""
    root = tmp_path_factory.mktemp("path")
    house = root / "parts_house"
    house.mkdir()
    (house / "__init__.py").write_text("from parts_house.parts import Block as Shown\n")
    (house / "parts.py").write_text(textwrap.dedent(PARTS))
    (house / "all.py").write_text("from parts_house.parts import *\nfrom parts_house.circle import *\n")
    (house / "circle.py").write_text("from parts_house.all import *\n")
    (house / "base.py").write_text("class Base:\n    def __init__(self, depth: int, bias=True): ...\n")
    sys.path.insert(0, str(root))
    yield "parts_house.parts"
    sys.path.remove(str(root))


def told(cfg: Mapping[str, object]) -> list[str]:
    """The lines of the message, without the indent."""
    with pytest.raises(UserError) as caught:
        preflight(OmegaConf.create(dict(cfg)))
    return [line.strip() for line in str(caught.value).splitlines()]


def test_a_good_configuration_passes(parts):
    cfg = {
        "seed": 1,
        "run_dir": None,
        "checkpoint": "x",
        "device": "cpu",
        "attn": {"_target_": f"{parts}.Bare", "_partial_": True},
        "block": {"_target_": f"{parts}.Block", "width": 8, "rate": 1, "attn": "${attn}", "spread": [0, 1.5]},
        "loader": {"_target_": f"{parts}.Cached", "root": "r", "ratios": [1, 0.5]},
        "draw": {"_target_": f"{parts}.draw", "_partial_": True, "anything": 3},
    }
    preflight(OmegaConf.create(dict(cfg)))


def test_all_problems_stand_in_one_message(parts):
    block = {"_target_": f"{parts}.Block", "_partial_": True, "witdh": 3, "width": "big", "norm": "rmss"}
    assert told({"block": block, "seed": "one", "devise": "cpu"}) == [
        "The configuration has 5 problems:",
        "seed='one': expected int, got str.",
        "devise='cpu': there is no such key; did you mean device?",
        "block.witdh=3: Block has no such argument; did you mean width?",
        "block.width='big': expected int, got str (parts_house/parts.py, class Block).",
        "block.norm='rmss': expected 'rms' or 'layer', got str; did you mean rms?"
        " (parts_house/parts.py, class Block).",
    ]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("width", 1e5, "block.width=100000.0: expected int, got float; write 100000"),
        ("width", True, "block.width=True: expected int, got bool"),
        ("width", None, "block.width=null: expected int, got null"),
        ("clip", 1, "block.clip=1: expected bool, got int"),
        ("name", 5, "block.name=5: expected str or null, got int; quote it: block.name=\"'5'\""),
        (
            "spread",
            [1, 2, 3],
            "block.spread=[1, 2, 3]: expected tuple[float, float], got list[int, int, int]",
        ),
        (
            "attn",
            "gqa",
            "block.attn='gqa': expected Callable[[int], object] or null, got str; "
            "a part is chosen with attn=gqa",
        ),
    ],
)
def test_a_wrong_type_names_key_value_and_what_to_write(parts, key, value, text):
    block = {"_target_": f"{parts}.Block", "_partial_": True, key: value}
    lines = told({"block": block})
    assert lines == ["The configuration has 1 problem:", f"{text} (parts_house/parts.py, class Block)."]


def test_a_missing_value_and_a_missing_argument_are_told(parts):
    lines = told(
        {"block": {"_target_": f"{parts}.Block"}, "loader": {"_target_": f"{parts}.Loader", "root": "???"}}
    )
    assert lines[1:] == [
        "block.width: Block requires it (parts_house/parts.py, class Block). Pass +block.width=VALUE.",
        "loader.root=???: a value is missing. Pass loader.root=VALUE.",
    ]


def test_a_missing_value_is_told_once_also_where_others_refer_to_it(parts):
    lines = told({"seed": "???", "a": {"_target_": f"{parts}.Inherits", "depth": "${seed}"}})
    assert lines[1:] == ["seed=???: a value is missing. Pass seed=VALUE."]


def test_interpolations_are_resolved_before_types_are_compared(parts):
    lines = told(
        {"device": "cpu", "a": {"_target_": f"{parts}.Inherits", "depth": "${device}", "bias": "${b.c}"}}
    )
    assert lines[1:] == [
        "a.depth='cpu': expected int, got str (parts_house/parts.py, class Inherits).",
        "a.bias: Interpolation key 'b.c' not found.",
    ]


def test_a_part_inside_a_part_or_a_list_is_checked_once(parts):
    inner = {"_target_": f"{parts}.Bare", "x": 1}
    outer = {"_target_": f"{parts}.Block", "width": 1, "attn": inner, "name": None}
    lines = told(
        {"outer": outer, "again": {"_target_": f"{parts}.draw", "steps": 1, "_partial_": True, "l": [inner]}}
    )
    assert lines[1:] == [
        "outer.attn.x=1: Bare has no such argument.",
        "again.l[0].x=1: Bare has no such argument.",
    ]
    referred = {"attn": inner, "outer": {**outer, "attn": "${attn}"}}
    assert told(referred)[1:] == ["attn.x=1: Bare has no such argument."]


def test_a_target_that_does_not_exist_is_named():
    lines = told({"objective": {"_target_": "dit_exp.errors.UserErrors"}})
    assert len(lines) == 2
    assert lines[1].startswith("objective._target_=dit_exp.errors.UserErrors: ")
    assert lines[1].endswith("; did you mean UserError?")


def test_arguments_are_read_through_bases_reexports_and_dataclass_fields(parts):
    def names(target: str) -> list[str]:
        return [p.name for p in signature(target).parameters or []]

    assert names(f"{parts}.Inherits") == ["depth", "bias"]
    assert names(f"{parts}.Bare") == []
    assert names(f"{parts}.Cached") == ["root", "workers", "ratios", "cache"]
    assert names(f"{parts}.draw") == ["parts", "steps", "eta", "rest"]
    assert signature("parts_house.Shown").where == "parts_house/parts.py, class Block"
    assert signature("parts_house.circle.Block").where == "parts_house/parts.py, class Block"
    with pytest.raises(LookupError, match="houses_that_do_not_exist"):  # nowhere in the circle: imported
        signature("parts_house.circle.Absent")


def test_what_cannot_be_read_is_imported():
    assert [p.name for p in signature("operator.itemgetter").parameters or []] == ["item", "items"]
    assert [p.name for p in signature("math.isqrt").parameters or []] == ["n"]
    assert signature("builtins.dict").parameters is None


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("float", [1, 1.5, float("inf")], ["1e-4", True, None]),
        ("Path", ["/x"], [1]),
        ("Optional[int]", [None, 1], [1.0]),
        ("Union[int, str]", [1, "a"], [1.5]),
        ("Literal[1, 'a']", [1, "a"], [True, 1.0, "b"]),
        ("list[int]", [[], [1]], [1, ["a"], [1, None]]),
        ("Sequence[str | None]", [["a", None]], ["a"]),
        ("tuple[int, ...]", [[], [1, 2]], [["a"]]),
        ("dict[str, int]", [{"a": 1}], [[1], "a"]),
        ("'int | None'", [1, None], ["1"]),
        ("torch.Tensor", [1, "x", None, [1]], []),
        ("int", [{"_target_": "x"}], [{"a": 1}]),
    ],
)
def test_annotations(annotation, good, bad):
    expression = ast.parse(annotation, mode="eval").body
    assert [accepts(expression, value) for value in good] == [True] * len(good)
    assert [accepts(expression, value) for value in bad] == [False] * len(bad)


def test_yaml_and_overrides_read_1e_4_as_a_number():
    assert OmegaConf.create("lr: 1e-4").lr == pytest.approx(1e-4)


def test_a_problem_is_told_without_importing_torch_or_the_parts():
    code = """
        import sys
        from omegaconf import OmegaConf
        from dit_exp import cli
        from dit_exp.check import preflight
        from dit_exp.errors import UserError
        model = {"_target_": "dit_exp.model.dit.DiT", "_partial_": True, "depht": 1}
        optimizer = {"_target_": "torch.optim.AdamW", "eps": "x"}
        try:
            preflight(OmegaConf.create({"model": model, "optimizer": optimizer}))
        except UserError as error:
            print(error)
        print([m for m in ("torch", "mlflow", "dit_exp.model.dit") if m in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    lines = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=CONF.parent
    ).stdout.splitlines()
    assert lines == [
        "The configuration has 3 problems:",
        "  model.depht=1: DiT has no such argument; did you mean depth?",
        "  optimizer.eps='x': expected float, got str (torch/optim/adamw.py, class AdamW).",
        "  optimizer.params: AdamW requires it (torch/optim/adamw.py, class AdamW). "
        "Pass +optimizer.params=VALUE.",
        "[]",
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_tells_what_inspect_tells(target, monkeypatch):
    """Names, kinds and defaults of every class and function that conf/ names; none needs to be imported."""
    thing = locate(target)
    assert callable(thing)
    expected = inspect.signature(thing).parameters
    with monkeypatch.context() as patch:
        patch.delattr("pkgutil.resolve_name")
        read = {p.name: p for p in signature(target).parameters or []}
    assert [(p.name, p.kind) for p in read.values()] == [(p.name, p.kind) for p in expected.values()]
    scope = vars(sys.modules[thing.__module__])
    for name, parameter in expected.items():
        if "factory" in repr(parameter.default):
            assert read[name].default is not Parameter.empty
        elif parameter.default is Parameter.empty:
            assert read[name].default is Parameter.empty
        else:
            assert eval(read[name].default, scope) == parameter.default


def test_no_part_takes_any_argument_whatever_its_name():
    """As one does that inherits torch.nn.Module's constructor: a misspelt key would be found out late."""
    for target in (target for target in TARGETS if target.startswith("dit_exp.")):
        kinds = {p.kind for p in signature(target).parameters or []}
        assert not kinds & {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}, target


def test_the_defaults_pass(monkeypatch):
    monkeypatch.setenv("DIT_EXP_HOME", str(CONF.parent))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg: DictConfig = compose("config")
    preflight(cfg)

"""Preflight: every missing, unknown or wrongly typed key of the composed config, in one message.

The schema is the constructors' own arguments. They are read from source with ast, so that a mistake is
answered before torch is imported, which takes longer than all else on the way to the message.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import os
import pkgutil
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from dit_exp.errors import UserError

TOP = {"seed": "int", "run_dir": "str | None", "checkpoint": "str | None", "device": "str", "cache": "str"}
"""Keys of the config that belong to no component, with their types."""

HYDRA = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

BESIDE = {"sampler.reuse"}
"""Parts that are chosen inside another's group and not handed to it."""


class Target(NamedTuple):
    """What a `_target_` names. `parameters` hold annotations and defaults as source text.

    `parameters` is None where they cannot be known, as for many builtins; then any key is taken.
    """

    name: str
    where: str
    parameters: list[Parameter] | None


def preflight(cfg: DictConfig) -> None:
    """Raises one UserError that lists all problems of a composed config."""
    problems: list[str] = []
    for name, key, value in _items(cfg, "", problems):
        if key in TOP:
            problems += _mistyped(name, value, TOP[key], "")
        elif key != "hydra" and not (isinstance(value, DictConfig) and "_target_" in value):
            known = [*TOP, *(str(k) for k in cfg if k != key)]
            problems.append(f"{name}={_short(value)}: there is no such key{_nearest(key, known)}")
    _walk(cfg, "", problems)
    problems = list(dict.fromkeys(problems))  # the top is read twice
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"The configuration has {count}:" + "".join(f"\n  {p}" for p in problems))


def _items(node: DictConfig | ListConfig, path: str, problems: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """(full name, key, value) of each entry that has a value; the others become problems."""
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        name = f"{path}[{key}]" if isinstance(node, ListConfig) else f"{path}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key):
            problems.append(f"{name}=???: a value is missing. Pass {name}=VALUE.")
            continue
        try:
            value = node[key]
        except InterpolationToMissingValueError:
            continue  # reported where the value is missing
        except OmegaConfBaseException as error:
            problems.append(f"{name}: {str(error).splitlines()[0]}.")
            continue
        yield name, key, value


def _walk(node: DictConfig | ListConfig, path: str, problems: list[str]) -> None:
    """Checks `node` against its `_target_` where it has one, then the nodes inside it."""
    target = None
    if isinstance(node, DictConfig) and "_target_" in node:
        try:
            target = signature(str(node["_target_"]))
        except LookupError as error:
            problems.append(f"{path}._target_={node['_target_']}: {error.args[0]}")
    parameters = (target and target.parameters) or []
    named = {p.name: p for p in parameters if p.kind in NAMED}
    closed = target and target.parameters is not None and all(p.kind != p.VAR_KEYWORD for p in parameters)
    for name, key, value in _items(node, path, problems):
        if target and key in named:
            problems += _mistyped(name, value, named[key].annotation, target.where)
        elif target and closed and key not in HYDRA and name not in BESIDE:
            hint = _nearest(str(key), named)
            problems.append(f"{name}={_short(value)}: {target.name} has no such argument{hint}")
        if isinstance(value, DictConfig | ListConfig) and not OmegaConf.is_interpolation(node, key):
            _walk(value, name, problems)
    if target and isinstance(node, DictConfig) and not node.get("_partial_"):
        for p in list(named.values())[len(node.get("_args_", ())) :]:
            if p.default is Parameter.empty and p.name not in list(node):
                name = f"{path}.{p.name}"
                problems.append(f"{name}: {target.name} requires it ({target.where}). Pass +{name}=VALUE.")


def _mistyped(name: str, value: Any, annotation: Any, where: str) -> list[str]:
    """No problem or one."""
    try:
        expected = ast.parse(annotation, mode="eval").body
        if isinstance(value, DictConfig | ListConfig):
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except (TypeError, SyntaxError, OmegaConfBaseException):
        return []  # no annotation, one that is not source, or a value whose parts are reported on their own
    if accepts(expected, value):
        return []
    types, hint = {n.id for n in ast.walk(expected) if isinstance(n, ast.Name)}, ""
    if isinstance(value, float) and value.is_integer() and "int" in types:
        hint = f"; write {int(value)}"
    elif isinstance(value, int | float) and "str" in types:
        hint = f"; quote it: {name}=\"'{value}'\""
    elif isinstance(value, str) and "Callable" in types:
        hint = f"; a part is chosen with {name.rpartition('.')[2]}={value}"
    elif isinstance(value, str):
        hint = _nearest(value, _choices(expected)).rstrip(".")
    place = f" ({where})" if where else ""
    return [f"{name}={_short(value)}: expected {_describe(expected)}, got {_type(value)}{hint}{place}."]


def accepts(annotation: ast.expr, value: Any) -> bool:
    """Whether `value`, as plain containers, may be passed; True for annotations not understood here."""
    if isinstance(value, dict) and "_target_" in value:
        return True  # what it builds is not known before it is built
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(text)):
            return accepts(ast.parse(text, mode="eval").body, value)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return accepts(left, value) or accepts(right, value)
        case ast.Subscript(value=head, slice=ast.Tuple(elts=inner)) | ast.Subscript(value=head, slice=inner):
            inner = inner if isinstance(inner, list) else [inner]
        case head:
            inner = []
    match ast.unparse(head).rpartition(".")[2]:
        case "Optional":
            return value is None or accepts(inner[0], value)
        case "Union":
            return any(accepts(one, value) for one in inner)
        case "Literal":
            return any(type(choice) is type(value) and choice == value for choice in _choices(annotation))
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "str" | "Path":
            return isinstance(value, str)
        case "Callable":
            return False
        case "dict" | "Dict" | "Mapping":
            return isinstance(value, dict)
        case "list" | "List" | "Sequence" | "Iterable":
            return isinstance(value, list) and all(accepts(inner[0], v) for v in value if inner)
        case "tuple" | "Tuple":
            if not isinstance(value, list) or not inner:
                return isinstance(value, list)
            if ast.unparse(inner[-1]) == "...":
                inner = inner[:1] * len(value)
            return len(inner) == len(value) and all(map(accepts, inner, value))
    return True


def _choices(annotation: ast.expr) -> list[Any]:
    """The values of every Literal inside an annotation."""
    heads = [
        n for n in ast.walk(annotation) if isinstance(n, ast.Subscript) and "Literal" in ast.unparse(n.value)
    ]
    slices = [n.slice.elts if isinstance(n.slice, ast.Tuple) else [n.slice] for n in heads]
    return [ast.literal_eval(choice) for elements in slices for choice in elements]


def _describe(annotation: ast.expr) -> str:
    """The annotation in the words of a YAML file."""
    match annotation:
        case ast.Constant(value=None):
            return "null"
        case ast.BinOp(left=left, right=right):
            return f"{_describe(left)} or {_describe(right)}"
        case ast.Subscript(value=ast.Name(id="Literal")):
            return " or ".join(repr(choice) for choice in _choices(annotation))
    return ast.unparse(annotation)


def _short(value: Any) -> str:
    plain = OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value
    text = "null" if plain is None else repr(plain)
    return text if len(text) <= 60 else text[:57] + "..."


def _type(value: Any) -> str:
    if isinstance(value, list):
        return f"list[{', '.join(map(_type, value))}]"
    return "null" if value is None else type(value).__name__


def _nearest(word: str, known: Iterable[Any]) -> str:
    close = difflib.get_close_matches(word, [k for k in known if isinstance(k, str)], 1)
    return f"; did you mean {close[0]}?" if close else "."


class Module(NamedTuple):
    """A module's source, not executed. `package` is what its relative imports start from."""

    name: str
    package: str
    file: str
    body: list[ast.stmt]


Definition = tuple[Module, ast.ClassDef | ast.FunctionDef]


def signature(target: str) -> Target:
    """The arguments of the class or function that a dotted path names.

    Its source is read; it is imported only where that does not tell, as for a compiled module or a base class
    built at run time. Raises LookupError if there is no such thing.
    """
    found = _find(target)
    if found:
        module, definition = found
        kind = "class" if isinstance(definition, ast.ClassDef) else "function"
        try:
            parameters = _parameters(found) or []
            return Target(definition.name, f"{module.file}, {kind} {definition.name}", parameters)
        except LookupError:
            pass
    try:
        thing = pkgutil.resolve_name(target)
    except Exception as error:
        module = _read(target.rpartition(".")[0])
        names = (
            [n.name for n in module.body if isinstance(n, ast.ClassDef | ast.FunctionDef)] if module else []
        )
        hint = _nearest(target.rpartition(".")[2], names)
        raise LookupError(f"{type(error).__name__}: {error}{hint}") from error
    try:
        parameters = [_as_text(p) for p in inspect.signature(thing).parameters.values()]
    except (TypeError, ValueError):
        parameters = None
    return Target(target.rpartition(".")[2], target, parameters)


def _as_text(p: Parameter) -> Parameter:
    if p.annotation is p.empty or isinstance(p.annotation, str):
        return p
    return p.replace(annotation=inspect.formatannotation(p.annotation))


def _read(name: str) -> Module | None:
    """Finds a module without importing its parents, and parses it."""
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    is_package = spec.submodule_search_locations is not None
    file = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    body = _parsed(spec.origin, os.stat(spec.origin).st_mtime_ns)
    return Module(name, name if is_package else name.rpartition(".")[0], file, body)


@lru_cache(maxsize=1024)
def _parsed(file: str, changed: int) -> list[ast.stmt]:
    """A file as it was at the moment `changed`, kept for the other runs of a sweep."""
    return ast.parse(Path(file).read_text(encoding="utf-8")).body


def _find(target: str, seen: frozenset[str] = frozenset()) -> Definition | None:
    """Where a dotted path leads, through re-exports. `seen` are those that led here, in case of a circle."""
    module = _read(target.rpartition(".")[0]) if target not in seen else None
    if module is None:
        return None
    name = target.rpartition(".")[2]
    for statement in reversed(module.body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
    imported = _imports(module)
    starred = [f"{path}.{name}" for local, path in imported.items() if local.startswith("*")]
    origins = [imported[name]] if name in imported else starred
    return next(filter(None, (_find(origin, seen | {target}) for origin in origins)), None)


def _imports(module: Module) -> dict[str, str]:
    """Local name -> dotted path; "*path" -> path for a module all of whose names are imported."""
    names = {}
    for statement in module.body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                first = alias.name.partition(".")[0]
                names |= {alias.asname: alias.name} if alias.asname else {first: first}
        elif isinstance(statement, ast.ImportFrom):
            source = "." * statement.level + (statement.module or "")
            source = importlib.util.resolve_name(source, module.package)
            for alias in statement.names:
                starred = alias.name == "*"
                local = f"*{source}" if starred else alias.asname or alias.name
                names[local] = source if starred else f"{source}.{alias.name}"
    return names


def _parameters(found: Definition) -> list[Parameter] | None:
    """Arguments in order; None where they are object's. Raises LookupError for a base out of sight."""
    _, definition = found
    if isinstance(definition, ast.FunctionDef):
        return _arguments(definition.args)
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name in ("__init__", "__new__"):
            return _arguments(statement.args)[1:]
    if _is_dataclass(definition):
        return sorted(_fields(found).values(), key=lambda p: p.kind)
    for base in _bases(found):
        parameters = _parameters(base)
        if parameters is not None:
            return parameters
    return None


def _arguments(a: ast.arguments) -> list[Parameter]:
    kinds = [
        (a.posonlyargs, Parameter.POSITIONAL_ONLY),
        (a.args, Parameter.POSITIONAL_OR_KEYWORD),
        ([a.vararg], Parameter.VAR_POSITIONAL),
        (a.kwonlyargs, Parameter.KEYWORD_ONLY),
        ([a.kwarg], Parameter.VAR_KEYWORD),
    ]
    positional = reversed(a.posonlyargs + a.args)
    defaults = dict(zip(positional, reversed(a.defaults), strict=False))
    defaults |= {x: d for x, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if d}
    return [_parameter(x.arg, kind, defaults.get(x), x.annotation) for xs, kind in kinds for x in xs if x]


def _parameter(name: str, kind: Any, default: ast.expr | None, annotation: ast.expr | None) -> Parameter:
    """Annotation and default as source text."""
    return Parameter(
        name,
        kind,
        default=ast.unparse(default) if default else Parameter.empty,
        annotation=ast.unparse(annotation) if annotation else Parameter.empty,
    )


def _bases(found: Definition) -> Iterator[Definition]:
    module, definition = found
    for base in definition.bases if isinstance(definition, ast.ClassDef) else []:
        dotted = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        if dotted.rpartition(".")[2] in {"object", "ABC", "Generic", "Protocol"}:
            continue
        head, dot, tail = dotted.partition(".")
        origin = _find(_imports(module).get(head, f"{module.name}.{head}") + dot + tail)
        if origin is None:
            raise LookupError(dotted)
        yield origin


def _is_dataclass(definition: ast.ClassDef | ast.FunctionDef) -> bool:
    return any("dataclass" in ast.unparse(d).partition("(")[0] for d in definition.decorator_list)


def _fields(found: Definition) -> dict[str, Parameter]:
    """The fields of a dataclass that its __init__ takes, those of its bases first."""
    _, definition = found
    fields: dict[str, Parameter] = {}
    for base in reversed(list(_bases(found))):
        fields |= _fields(base) if _is_dataclass(base[1]) else {}
    keyword_only = any("kw_only=True" in ast.unparse(d) for d in definition.decorator_list)
    kind = Parameter.KEYWORD_ONLY if keyword_only else Parameter.POSITIONAL_OR_KEYWORD
    for s in definition.body:
        if not isinstance(s, ast.AnnAssign) or "ClassVar" in ast.unparse(s.annotation):
            continue
        name, default, options = ast.unparse(s.target), s.value, {}
        if isinstance(default, ast.Call) and ast.unparse(default.func).endswith("field"):
            options = {k.arg: k.value for k in default.keywords}
            default = options.get("default", options.get("default_factory"))
        if "init" not in options or ast.unparse(options["init"]) == "True":
            fields[name] = _parameter(name, kind, default, s.annotation)
    return fields

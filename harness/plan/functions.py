"""The functions that an experiment names: which may be named, and what they may be given.

Signatures are read from the source, without importing it: an experiment that is looked at
runs no code. ``chaos run`` looks at neither names nor types, calls ``kill_pods`` with a
misspelt argument after the rest has been done, and takes any module that can be imported.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.plan.experiment import ENV_TYPES, Activity, Experiment
from harness.plan.nodes import Node, fail, nearest

#: What may change the target: functions that keep an undo record.
ACTIONS = (
    "harness.chaos.actions.delivery.deliver",
    "harness.chaos.actions.network.isolate_region",
    "harness.chaos.actions.network.isolate_zone",
    "harness.chaos.actions.pods.kill_pods",
    "harness.chaos.actions.services.stop_service",
    "harness.chaos.actions.undo.undo_all",
    "harness.chaos.actions.wait.recovered",
)
PROBES = tuple(
    f"harness.chaos.probes.{name}"
    for name in ("app_ready", "prometheus_value", "served_by", "service_answers")
)
#: Stock modules whose functions only look.
_STOCK_PROBES = re.compile(r"(chaosk8s|chaosaws)(\.\w+)*\.probes")
#: Arguments that Chaos Toolkit gives by itself.
_GIVEN = frozenset({"configuration", "secrets"})
#: Arguments that name one thing, and so are no pattern.
_NAMES = frozenset({"app", "cluster", "deployment", "ns", "region", "rollout", "zone"})
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")
_SELECTOR = re.compile(r"[\w./-]+ *(=|==|!=) *[\w.-]+( *, *[\w./-]+ *(=|==|!=) *[\w.-]+)*")
_COUNTS = frozenset({"at_most", "count", "min_ok", "of", "percent", "timeout"})
_SUBSTITUTED = re.compile(r"\$\{([^}]*)\}")
_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
          "list": "a list", "dict": "keys of its own", "none": "null"}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """``types`` are names as in :data:`_WORDS`; none: it may be anything."""

    name: str
    types: frozenset[str]
    required: bool


def check_functions(experiment: Experiment, also: Collection[str] = ()) -> None:
    """Raise PlanInvalid at the first function that may not be called so.

    ``also``: functions (``module.name``) that the plan allows beside ours.
    """
    for place, activities in (
        ("hypothesis", experiment.hypothesis),
        ("method", experiment.method),
        ("rollbacks", experiment.rollbacks),
    ):
        for activity in activities:
            _check(activity, place, experiment, also)


def parameters_of(module: str, name: str) -> tuple[Parameter, ...] | None:
    """What ``module.name`` takes; None if there is no such function."""
    function = _functions(module).get(name)
    return None if function is None else tuple(_parameters(function))


# ── one activity ───────────────────────────────────────────────────────────────────────


def _check(activity: Activity, place: str, experiment: Experiment, also: Collection[str]) -> None:
    provider = activity.provider
    module, name = str(provider.data["module"]), str(provider.data["func"])
    _is_allowed(activity, module, name, also)
    parameters = parameters_of(module, name)
    if parameters is None:
        message = f"{module} has no function {name!r}"
        fail(message, nearest(name, sorted(_functions(module))), provider.where("func"))
    if place == "hypothesis" and activity.type != "probe":
        fail("a hypothesis has probes only", "move it to method", activity.node.where("type"))
    _secrets(provider, module, experiment)
    _pauses(activity.node, experiment)
    given = provider.child("arguments") if provider.data.get("arguments") is not None else None
    _arguments(provider, given, parameters, experiment)


def _is_allowed(activity: Activity, module: str, name: str, also: Collection[str]) -> None:
    known = ACTIONS if activity.type == "action" else PROBES
    full = f"{module}.{name}"
    if full in known or full in also:
        return
    if activity.type == "probe" and _STOCK_PROBES.fullmatch(module):
        if not _functions(module):
            fail(f"there is no module {module!r}", "is it installed?",
                 activity.provider.where("module"))  # fmt: skip
        return
    modules = sorted({f.rpartition(".")[0] for f in known})
    if module in modules:
        names = [f.rpartition(".")[2] for f in known if f.startswith(f"{module}.")]
        fail(f"{name!r} of {module} is no {activity.type}", nearest(name, names),
             activity.provider.where("func"))  # fmt: skip
    message = f"{full} is not among the functions that an experiment may call"
    hint = f"{nearest(module, modules)}; or name it under functions: of the plan"
    fail(message, hint, activity.provider.where("module"))


def _secrets(provider: Node, module: str, experiment: Experiment) -> None:
    named = provider.data.get("secrets")
    if named is not None and not isinstance(named, CommentedSeq):
        fail("secrets must be a list of names", "write [NAME]", provider.where("secrets"))
    for secret in named or ():
        if secret not in experiment.secrets:
            message = f"there are no secrets {secret!r}"
            fail(message, nearest(secret, experiment.secrets), provider.where("secrets"))
    contexts = [s for s in named or () if "KUBERNETES_CONTEXT" in experiment.secrets[s]]
    if module.startswith("chaosk8s.") and len(contexts) != 1:
        message = "without one KUBERNETES_CONTEXT the cluster is any that the kubeconfig has"
        hint = "add secrets: [NAME], and NAME with KUBERNETES_CONTEXT to the secrets"
        fail(message, hint, provider.where("secrets"))


def _pauses(node: Node, experiment: Experiment) -> None:
    if "pauses" not in node.data:
        return
    pauses = node.child("pauses")
    for key, value in pauses.data.items():
        types = _types_of(pauses, key, value, experiment)
        if types and not types & {"int", "float"}:
            fail(f"{value!r} is no number of seconds", "write 20, say", pauses.where(key))
        if isinstance(value, (int, float)) and value < 0:
            fail("a pause is not negative", "write 20, say", pauses.where(key))


# ── its arguments ──────────────────────────────────────────────────────────────────────


def _arguments(
    provider: Node,
    given: Node | None,
    parameters: tuple[Parameter, ...],
    experiment: Experiment,
) -> None:
    known = {p.name: p for p in parameters if p.name not in _GIVEN}
    for key, value in given.data.items() if given is not None else ():
        assert given is not None
        if key not in known:
            function = provider.data["func"]
            message = f"{function} takes no argument {key!r}"
            fail(message, nearest(key, known) if known else "it takes none",
                 given.where(key, value=False))  # fmt: skip
        _argument(given, known[key], value, experiment)
    for parameter in known.values():
        if parameter.required and (given is None or parameter.name not in given.data):
            message = f"{provider.data['func']} needs an argument {parameter.name!r}"
            fail(message, f"add {parameter.name}: … to its arguments", provider.where("arguments"))


def _argument(given: Node, parameter: Parameter, value: Any, experiment: Experiment) -> None:
    name, where = parameter.name, given.where(parameter.name)
    if value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip()):
        if value is None and "none" in parameter.types:
            return
        fail(f"{name} is empty", "an empty selector may select everything; name one", where)
    types = _types_of(given, name, value, experiment)
    if types and parameter.types and not _fits(types, parameter.types):
        wanted = " or ".join(_WORDS[t] for t in sorted(parameter.types - {"none"}))
        hint = f"write {wanted}"
        if isinstance(value, str) and parameter.types & {"int", "float"}:
            hint += f"{', in seconds' if name.endswith('_s') else ''}, without unit or quotes"
        fail(f"{name} is {value!r}, which is not {wanted}", hint, where)
    _is_sensible(name, value, given)


def _is_sensible(name: str, value: Any, given: Node) -> None:
    where = given.where(name)
    if isinstance(value, str) and not _SUBSTITUTED.search(value):
        if name in _NAMES and not _NAME.fullmatch(value):
            fail(f"{value!r} names no {name}", "write one name, no pattern", where)
        if name == "label_selector" and not _SELECTOR.fullmatch(value):
            fail(f"{value!r} selects by no label", "write app=file, say", where)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if (name in _COUNTS or name.endswith("_s")) and value <= 0:
        fail(f"{name} is {value}", "write a number above 0", where)
    if name == "percent" and value > 100:
        fail(f"{name} is {value}", "write a number up to 100", where)


def _fits(types: Collection[str], wanted: Collection[str]) -> bool:
    return any(t in wanted or (t == "int" and "float" in wanted) for t in types)


def _types_of(node: Node, key: str, value: Any, experiment: Experiment) -> frozenset[str]:
    """Which types a value will have; none if that is not known. Names in ``${…}`` must be known."""
    if isinstance(value, bool):
        return frozenset({"bool"})
    for kind, name in ((int, "int"), (float, "float"), (CommentedSeq, "list")):
        if isinstance(value, kind):
            return frozenset({name})
    if isinstance(value, CommentedMap):
        return frozenset({"dict"})
    names = _SUBSTITUTED.findall(str(value))
    for name in names:
        if name not in experiment.configuration and name not in experiment.secrets:
            message = f"nothing is configured as {name!r}"
            fail(message, nearest(name, experiment.configuration), node.where(key))
    if names and _SUBSTITUTED.fullmatch(str(value)):
        return _types_configured(experiment.configuration.get(names[0]))
    return frozenset({"str"})


def _types_configured(entry: Any) -> frozenset[str]:
    if isinstance(entry, Mapping):
        # Without a type it is text where the variable is set, and else the default as it is.
        kind = ENV_TYPES.get(str(entry.get("env_var_type")), "")
        return frozenset({kind} - {""})
    for kind_of, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str")):
        if isinstance(entry, kind_of):
            return frozenset({name})
    return frozenset()


# ── signatures, from the source ────────────────────────────────────────────────────────


@lru_cache(maxsize=64)
def _functions(module: str) -> Mapping[str, ast.FunctionDef]:
    """The public functions of a module, by name; empty if there is no such module."""
    path = _source(module)
    if path is None:
        return {}
    tree = ast.parse(path.read_bytes())
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _source(module: str) -> Path | None:
    root, *rest = module.split(".")
    if not all(part.isidentifier() for part in (root, *rest)):
        return None
    # Of a package at the top this imports nothing.
    spec = importlib.util.find_spec(root)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return None
    if not rest and spec.origin is not None:
        return Path(spec.origin)
    for location in spec.submodule_search_locations or ():
        base = Path(location, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _parameters(function: ast.FunctionDef) -> Iterator[Parameter]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    for index, argument in enumerate(positional):
        yield Parameter(argument.arg, _annotated(argument.annotation), index < without)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield Parameter(argument.arg, _annotated(argument.annotation), default is None)


_ANNOTATIONS = {"str": "str", "int": "int", "float": "float", "bool": "bool", "list": "list",
                "List": "list", "Sequence": "list", "dict": "dict", "Dict": "dict",
                "Mapping": "dict"}  # fmt: skip


def _annotated(annotation: ast.expr | None) -> frozenset[str]:
    """The types an annotation allows; none if it allows anything, or is not understood."""
    found = frozenset(_types_in(annotation))
    return frozenset() if "" in found else found


def _types_in(annotation: ast.expr | None) -> Iterator[str]:
    match annotation:
        case ast.Constant(value=None):
            yield "none"
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield _ANNOTATIONS.get(name, "")
        case ast.BinOp(left=left, right=right, op=ast.BitOr()):
            yield from _types_in(left)
            yield from _types_in(right)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from _types_in(inner)
            yield "none"
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            for part in parts:
                yield from _types_in(part)
        case ast.Subscript(value=outer):
            yield from _types_in(outer)
        case _:
            yield ""

"""Chaos Toolkit's experiments, read strictly: their form, and where everything stands.

``chaos validate`` accepts ``rollbaks:`` and runs an experiment that undoes nothing; here a
key that means nothing is refused with file, line, column and what was probably meant. So is
what would let an experiment do more than it shows: shell commands, requests, controls and
probes in places where nobody looks for them. The functions it names, and what they are given,
are looked at by :mod:`harness.plan.functions`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.errors import PlanInvalid, Where
from harness.plan.nodes import Node, fail, load_yaml, nearest, relative

_ACTIVITY = ("type", "name", "provider", "tolerance", "background", "pauses", "controls", "ref")
_CONTROL = "harness.chaos.control"
_PROVIDER = ("type", "module", "func", "arguments", "secrets", "configuration")
_ROOT = ("version", "title", "description", "tags", "configuration", "secrets", "extensions",
         "contributions", "runtime", "controls", "steady-state-hypothesis", "method",
         "rollbacks")  # fmt: skip
_FROM_ENVIRONMENT = ("type", "key", "default", "env_var_type")
#: What ``env_var_type`` may be → the type of the value then.
ENV_TYPES = {"str": "str", "int": "int", "integer": "int", "float": "float", "number": "float",
             "bool": "bool", "json": "", "bytes": ""}  # fmt: skip
_TOLERANCES = {"regex": ("pattern", "target"), "range": ("range", "target"),
               "jsonpath": ("path", "expect", "count", "target")}  # fmt: skip
_STRATEGIES = {
    "rollbacks": ("default", "always", "never", "deviated"),
    "hypothesis": ("default", "before-method-only", "after-method-only", "during-method-only",
                   "continuously", "skip"),
}  # fmt: skip


@dataclass(frozen=True)
class Activity:
    """An action or a probe. ``has_tolerance``: it can be told whether its answer is good."""

    name: str
    type: str
    has_tolerance: bool
    provider: Node
    node: Node


@dataclass(frozen=True)
class Experiment:
    """What is in a file of Chaos Toolkit, as far as its form says."""

    title: str
    sha256: str
    root: Node
    hypothesis: tuple[Activity, ...]
    method: tuple[Activity, ...]
    rollbacks: tuple[Activity, ...]

    @property
    def activities(self) -> tuple[Activity, ...]:
        """All of them, in the order in which they are written."""
        return (*self.hypothesis, *self.method, *self.rollbacks)

    @property
    def probes(self) -> tuple[Activity, ...]:
        """Probes of the hypothesis and of the method that have a tolerance."""
        found = (*self.hypothesis, *self.method)
        return tuple(a for a in found if a.type == "probe" and a.has_tolerance)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Name → what is written for it."""
        return self.root.data.get("configuration") or {}

    @property
    def secrets(self) -> Mapping[str, Any]:
        """Name → what is written for it."""
        return self.root.data.get("secrets") or {}


def read_experiment(path: Path, named_at: Where) -> Experiment:
    """The experiment in ``path``. Raises PlanInvalid with its place, or with that of who named it
    (``named_at``) where the file as a whole is none."""
    raw = path.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise PlanInvalid(f"{path} is not readable: {error}", where=named_at) from error
    root = _root(text, path, named_at)
    root.only(_ROOT, ("title", "method"))
    _configuration(root)
    _secrets(root)
    _controls(root)
    method = tuple(_activities(root, "method"))
    if not any(activity.type == "action" for activity in method):
        fail("the method has no action, so it breaks nothing", "add one", root.where("method"))
    return Experiment(
        title=str(root.data["title"]),
        sha256=hashlib.sha256(raw).hexdigest(),
        root=root,
        hypothesis=_hypothesis(root),
        method=method,
        rollbacks=tuple(_activities(root, "rollbacks")),
    )


def _root(text: str, path: Path, named_at: Where) -> Node:
    file = relative(path)
    if path.suffix not in (".yaml", ".yml"):
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            place = Where(file, error.lineno, error.colno)
            raise PlanInvalid(f"not JSON: {error.msg}", hint="fix it", where=place) from error
        # JSON is YAML but for tabs, which stand only between its tokens.
        text = text.replace("\t", " ")
    found = load_yaml(text, file)
    if len(found) == 1 and isinstance(found[0], CommentedMap) and "method" not in found[0]:
        for key in difflib.get_close_matches("method", map(str, found[0]), n=1):
            place = Node(file, found[0], "").where(key, value=False)
            fail(f"unknown key {key!r}", "did you mean 'method'?", place)
    if len(found) != 1 or not isinstance(found[0], CommentedMap) or "method" not in found[0]:
        fail(f"{path} is no experiment: it has no method", "chaos validate FILE", named_at)
    root = Node(file, found[0], "")
    _runtime(root)
    return root


def _configuration(root: Node) -> None:
    if root.data.get("configuration") is None:
        return
    node = root.child("configuration")
    for key, value in node.data.items():
        if not isinstance(value, CommentedMap):
            continue
        entry = node.child(key)
        if value.get("type") != "env":
            hint = "write a value, or type: env"
            fail(f"a configuration of type {value.get('type')!r} is not read", hint,
                 entry.where("type"))  # fmt: skip
        entry.only(_FROM_ENVIRONMENT, ("key",))
        if value.get("env_var_type", "str") not in ENV_TYPES:
            message = f"{value['env_var_type']!r} is no type of a value"
            fail(message, nearest(value["env_var_type"], ENV_TYPES), entry.where("env_var_type"))


def _secrets(root: Node) -> None:
    if root.data.get("secrets") is None:
        return
    node = root.child("secrets")
    for name in node.data:
        group = node.child(name)
        for key, value in group.data.items():
            if not isinstance(value, CommentedMap):
                continue
            entry = group.child(key)
            kinds = {"env": ("type", "key"), "vault": ("type", "path", "key")}
            if value.get("type") not in kinds:
                hint = "write type: env or type: vault"
                fail("a secret comes from elsewhere", hint, entry.where("type"))
            entry.only(kinds[value["type"]], kinds[value["type"]][:2])


def _controls(root: Node) -> None:
    """Ours must be there: it points stock tools at the target and undoes what is open."""
    found = root.items("controls") if "controls" in root.data else []
    for control in found:
        _only_ours(control)
    if not found:
        hint = f"add one with provider.module {_CONTROL}, as in experiments/pods"
        fail("the experiment has no control of the harness", hint, root.where("controls"))


def _only_ours(control: Node) -> None:
    control.only(("name", "provider"), ("name", "provider"))
    provider = control.child("provider")
    provider.only(("type", "module", "arguments"), ("type", "module"))
    if provider.data["type"] != "python" or provider.data["module"] != _CONTROL:
        key = "type" if provider.data["type"] != "python" else "module"
        hint = f"the only one is {_CONTROL}"
        fail(f"a control of {provider.data[key]!r} is not allowed", hint, provider.where(key))
    if "arguments" in provider.data:
        provider.child("arguments").only(("fault",), ())


def _runtime(root: Node) -> None:
    if "runtime" not in root.data:
        return
    runtime = root.child("runtime")
    runtime.only(_STRATEGIES, ())
    for key, known in _STRATEGIES.items():
        if key not in runtime.data:
            continue
        node = runtime.child(key)
        node.only(("strategy", "frequency", "fail_fast"), ())
        strategy = node.data.get("strategy", known[0])
        if strategy not in known:
            hint = "one of " + ", ".join(known)
            fail(f"{strategy!r} is no strategy of {key}", hint, node.where("strategy"))


def _hypothesis(root: Node) -> tuple[Activity, ...]:
    if root.data.get("steady-state-hypothesis") is None:
        return ()
    node = root.child("steady-state-hypothesis")
    node.only(("title", "probes"), ("title",))
    found = tuple(_activities(node, "probes"))
    for activity in found:
        if not activity.has_tolerance and "ref" not in activity.node.data:
            message = f"the probe {activity.name!r} has no tolerance, so it decides nothing"
            fail(message, "add a line tolerance: true, say", activity.node.where())
    return found


def _activities(node: Node, key: str) -> Iterator[Activity]:
    if node.data.get(key) is None:
        return
    if isinstance(node.data[key], CommentedSeq) and not node.data[key]:
        return
    for item in node.items(key):
        if "ref" in item.data:
            item.only(("ref",), ("ref",))
            continue
        item.only(_ACTIVITY, ("type", "name", "provider"))
        kind = item.data["type"]
        if kind not in ("action", "probe"):
            fail(f"{kind!r} is no type of activity", "write action or probe", item.where("type"))
        if "pauses" in item.data:
            item.child("pauses").only(("before", "after"), ())
        for control in item.items("controls") if "controls" in item.data else ():
            _only_ours(control)
        _tolerance(item)
        yield Activity(
            name=str(item.data["name"]),
            type=str(kind),
            has_tolerance="tolerance" in item.data,
            provider=_provider(item),
            node=item,
        )


def _tolerance(item: Node) -> None:
    """A tolerance that is a probe of its own would be a function nobody looks at."""
    if "tolerance" not in item.data:
        return
    if item.data["type"] != "probe":
        fail("an action has no tolerance", "leave it away", item.where("tolerance", value=False))
    value = item.data["tolerance"]
    if value is None:
        fail("the tolerance is empty", "write true, say", item.where("tolerance"))
    if not isinstance(value, CommentedMap):
        return
    node = item.child("tolerance")
    kind = value.get("type")
    if kind not in _TOLERANCES:
        fail(f"{kind!r} is no type of tolerance", nearest(kind, _TOLERANCES), node.where("type"))
    node.only(("type", "name", *_TOLERANCES[kind]), ("type", _TOLERANCES[kind][0]))


def _provider(item: Node) -> Node:
    provider = item.child("provider")
    kind = provider.data.get("type")
    if kind in ("process", "http"):
        what = "runs a command" if kind == "process" else "sends a request by itself"
        message = f"a provider that {what} is not allowed"
        hint = "write type: python; harness.chaos.probes has probes"
        fail(message, hint, provider.where("type"))
    if kind != "python":
        fail(f"{kind!r} is no type of provider", "write type: python", provider.where("type"))
    provider.only(_PROVIDER, ("module", "func"))
    return provider

"""Chaos Toolkit's experiments, read strictly: their form, and where everything stands.

``chaos validate`` accepts ``rollbaks:`` and runs an experiment that undoes nothing; here a
key that means nothing is refused with file, line, column and what was probably meant. What
the functions named take is checked by :mod:`harness.chaos.functions`, which may import them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.errors import PlanInvalid, Where
from harness.plan.nodes import Node, fail, load_yaml, relative

_ACTIVITY = ("type", "name", "provider", "tolerance", "background", "pauses", "controls",
             "timeout", "dry", "ref")  # fmt: skip
_CONTROLS = ("name", "provider", "scope", "automatic", "ref")
_PROVIDERS = {
    "python": ("module", "func", "arguments", "secrets", "configuration"),
    "http": ("url", "method", "headers", "expected_status", "arguments", "timeout", "verify_tls",
             "max_retries", "secrets"),
    "process": ("path", "arguments", "timeout", "env", "secrets"),
}  # fmt: skip
_ROOT = ("version", "title", "description", "tags", "configuration", "secrets", "extensions",
         "contributions", "runtime", "controls", "steady-state-hypothesis", "method",
         "rollbacks", "dry")  # fmt: skip
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
    document: Mapping[str, Any]
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
    return Experiment(
        title=str(root.data["title"]),
        sha256=hashlib.sha256(raw).hexdigest(),
        document=root.data,
        hypothesis=_hypothesis(root),
        method=tuple(_activities(root, "method")),
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
    if len(found) != 1 or not isinstance(found[0], CommentedMap) or "method" not in found[0]:
        fail(f"{path} is no experiment: it has no method", "chaos validate FILE", named_at)
    root = Node(file, found[0], "")
    _runtime(root)
    for control in root.items("controls") if "controls" in root.data else ():
        control.only(_CONTROLS, ("name",))
    return root


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
        pauses = item.child("pauses") if "pauses" in item.data else None
        if pauses is not None:
            pauses.only(("before", "after"), ())
        yield Activity(
            name=str(item.data["name"]),
            type=str(kind),
            has_tolerance="tolerance" in item.data,
            provider=_provider(item),
            node=item,
        )


def _provider(item: Node) -> Node:
    provider = item.child("provider")
    kind = provider.data.get("type")
    if kind not in _PROVIDERS:
        hint = "one of " + ", ".join(_PROVIDERS)
        fail(f"{kind!r} is no type of provider", hint, provider.where("type"))
    required = {"python": ("module", "func"), "http": ("url",), "process": ("path",)}[kind]
    provider.only(("type", *_PROVIDERS[kind]), required)
    return provider

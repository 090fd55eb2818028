"""``stop_when:`` and ``start_when:`` of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.plan.experiment import Experiment
from harness.plan.guards import (
    GUARD_KEYS,
    GUARD_KINDS,
    NO_DATA_MIN_S,
    NO_DATA_S,
    Guard,
    GuardKind,
    bound_of,
)
from harness.plan.nodes import Node, fail, nearest
from harness.plan.quantities import duration_s


def read_guards(root: Node, experiments: Mapping[str, Experiment]) -> Iterator[Guard]:
    """The stop conditions of a plan with these faults (name → experiment), each understood."""
    seen: set[tuple[str, str]] = set()
    for node in root.items("stop_when"):
        guard = _guard(node, experiments)
        # One condition twice is a slip: the second was meant to be another.
        if (guard.kind, guard.text) in seen:
            fail("the condition is there already", "remove one of the two", node.where())
        seen.add((guard.kind, guard.text))
        yield guard


def read_starts(root: Node) -> Iterator[Guard]:
    """What must hold before the run begins: PromQL with a bound, each series beyond it."""
    for node in root.items("start_when"):
        node.only(("prometheus", "above", "below"), ("prometheus",))
        yield _guard(node, {})


def _guard(node: Node, experiments: Mapping[str, Experiment]) -> Guard:
    kinds = [kind for kind in GUARD_KINDS if kind in node.data]
    known = {key: None for kind in GUARD_KINDS for key in (kind, *GUARD_KEYS[kind], "no_data")}
    if len(kinds) != 1:
        node.only(known, ())
        if kinds:
            fail("one entry holds two conditions", "start a new '- '", node.where(kinds[1]))
        fail("the entry names no condition", "one of " + ", ".join(GUARD_KINDS), node.where())
    kind = kinds[0]
    node.only((kind, *GUARD_KEYS[kind], "no_data"), ())
    guard = Guard(
        kind=kind,
        subject=node.get(kind, _words),
        line=node.data.lc.line + 1,
        above=node.get("above", bound_of) if "above" in node.data else None,
        below=node.get("below", bound_of) if "below" in node.data else None,
        region=node.get("region", _words) if "region" in node.data else "",
        fault=node.get("of", _words) if "of" in node.data else "",
        no_data_s=node.get("no_data", _no_data_s) if "no_data" in node.data else NO_DATA_S,
    )
    _is_whole(guard, kind, node, experiments)
    return guard


def _is_whole(
    guard: Guard, kind: GuardKind, node: Node, experiments: Mapping[str, Experiment]
) -> None:
    if kind == "prometheus" and (guard.above is None) == (guard.below is None):
        given = "both above and below" if guard.above is not None else "no bound"
        fail(f"the expression has {given}", "add above: 60 %, say", node.where("prometheus"))
    if kind == "file" and not guard.subject.startswith("/"):
        hint = "write its whole path, from / on"
        fail("a file elsewhere than expected stops nothing", hint, node.where("file"))
    if kind != "probe":
        return
    if not guard.fault:
        fail("the probe is of no fault", "add a line of: FAULT", node.where("probe"))
    if guard.fault not in experiments:
        message = f"there is no fault {guard.fault!r}"
        fail(message, nearest(guard.fault, experiments), node.where("of"))
    names = [probe.name for probe in experiments[guard.fault].probes]
    if guard.subject not in names:
        message = f"the experiment of {guard.fault} has no probe {guard.subject!r} with a tolerance"
        fail(message, nearest(guard.subject, names), node.where("probe"))


def _no_data_s(value: object) -> float:
    found = duration_s(value)
    if found < NO_DATA_MIN_S:
        raise ValueError(
            f"{value} is so short that one slow answer would stop the run; "
            f"write {NO_DATA_MIN_S:g}s or more"
        )
    return found


def _words(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not text; write some words")
    return value.strip()

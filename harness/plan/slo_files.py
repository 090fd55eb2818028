"""SLOs from files of others: OpenSLO v1 and Sloth (``prometheus/v1``).

Their indicators are queries; here they are judged by what clients counted. So a query is read
for what it means: of which operation, good or bad by status or by a latency bucket. One that
means anything else is refused with its place, because judging something near it would be worse
than judging nothing. Formats: https://github.com/OpenSLO/OpenSLO,
https://sloth.dev/specs/default/.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.errors import PlanInvalid, Where
from harness.plan.nodes import Node, fail, load_yaml, relative
from harness.plan.slo import Slo, target_of

#: Sloth's own period where nobody says another.
SLOTH_PERIOD_S = 30 * 86_400.0
_OPENSLO = "openslo/v1"
_SLOTH = "prometheus/v1"
#: Kinds of an OpenSLO document that hold no objective.
_OTHER_KINDS = (
    "Service",
    "DataSource",
    "AlertPolicy",
    "AlertCondition",
    "AlertNotificationTarget",
)
_PERIOD = re.compile(r"(\d+)(m|h|d|w)")
_PERIOD_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

#: Labels that only say which service, and where its counters are.
_SCOPE_LABELS = frozenset(
    {"app", "cluster", "component", "env", "environment", "job", "namespace", "service",
     "service_name", "team"}
)  # fmt: skip
_OPERATION_LABELS = frozenset({"op", "operation"})
_STATUS_LABELS = frozenset(
    {"code", "http_response_status_code", "http_status", "response_code", "status", "status_code"}
)
_SERVER_ERRORS = ("500", "502", "503", "504")
_UNITS_S = {"_seconds": 1.0, "_milliseconds": 0.001, "_ms": 0.001}


def read_slos(path: Path) -> tuple[Slo, ...]:
    """Every objective in an OpenSLO or Sloth file, in order.

    Raises PlanInvalid with file, line and column for whatever of it cannot be judged here.
    """
    file = relative(path)
    try:
        documents = load_yaml(path.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        hint = "give an OpenSLO or Sloth file"
        raise PlanInvalid(f"cannot be read: {error}", hint=hint, where=Where(file)) from error
    nodes = [node for document in documents for node in _nodes(file, document)]
    if len(nodes) == 1 and "slos" in nodes[0].data and "apiVersion" not in nodes[0].data:
        found = tuple(_sloth(nodes[0]))
    else:
        indicators = {
            str(node.data["metadata"]["name"]): node
            for node in nodes
            if _kind(node) == "SLI" and isinstance(node.data.get("metadata"), CommentedMap)
        }
        found = tuple(slo for node in nodes for slo in _openslo(node, indicators))
    if not found:
        fail("there is no SLO in it", "OpenSLO has kind: SLO, Sloth a list slos:", Where(file, 1))
    return found


def _nodes(file: str, document: Any) -> Iterator[Node]:
    if isinstance(document, CommentedSeq):
        for item in document:
            yield from _nodes(file, item)
    elif isinstance(document, CommentedMap):
        yield Node(file, document, "")
    elif document is not None:
        fail("an SLO file is a mapping of keys", "see docs/verdicts.md", Where(file, 1, 1))


# ---- OpenSLO ----------------------------------------------------------------------------------


def _kind(node: Node) -> str:
    version, kind = node.data.get("apiVersion"), node.data.get("kind")
    if version is None:
        hint = f"OpenSLO has apiVersion: {_OPENSLO}, Sloth version: {_SLOTH}"
        fail("neither OpenSLO nor Sloth", hint, node.where())
    if version != _OPENSLO:
        hint = f"write it as {_OPENSLO}, or as Sloth's version: {_SLOTH}"
        fail(f"{version} is not read", hint, node.where("apiVersion"))
    if kind not in ("SLO", "SLI", *_OTHER_KINDS):
        known = ", ".join(("SLO", "SLI", *_OTHER_KINDS))
        fail(f"{kind!r} is no kind of OpenSLO", f"one of {known}", node.where("kind"))
    return str(kind)


def _openslo(node: Node, indicators: dict[str, Node]) -> Iterator[Slo]:
    if _kind(node) != "SLO":
        return
    node.only(("apiVersion", "kind", "metadata", "spec"), ("metadata", "spec"))
    name = node.child("metadata").get("name", _text)
    spec = node.child("spec")
    spec.only(
        ("description", "service", "indicator", "indicatorRef", "timeWindow", "budgetingMethod",
         "objectives", "alertPolicies"),
        ("objectives",),
    )  # fmt: skip
    if spec.data.get("budgetingMethod", "Occurrences") != "Occurrences":
        hint = "time slices are not judged here; write Occurrences"
        method = spec.data["budgetingMethod"]
        fail(f"budgetingMethod {method} is not read", hint, spec.where("budgetingMethod"))
    indicator = _indicator(spec, indicators)
    windows = spec.items("timeWindow") if "timeWindow" in spec.data else []
    if len(windows) > 1:
        fail("there is one time window", "remove the others", windows[1].where())
    period_s = _window_s(windows[0]) if windows else None
    for objective in spec.items("objectives"):
        objective.only(("displayName", "target", "targetPercent"), ())
        keys = [key for key in ("target", "targetPercent") if key in objective.data]
        if len(keys) != 1:
            fail("an objective has target or targetPercent", "write one", objective.where())
        scale = 1.0 if keys[0] == "target" else 100.0
        target = objective.get(keys[0], functools.partial(_target, scale=scale))
        within_s, operations = _meaning(indicator)
        place = objective.where()
        yield Slo(target, within_s, period_s, operations, name, f"{place.file}:{place.line}")


def _indicator(spec: Node, indicators: dict[str, Node]) -> Node:
    """The ``ratioMetric`` an SLO is measured by."""
    if "indicatorRef" in spec.data:
        name = spec.get("indicatorRef", _text)
        if name not in indicators:
            hint = "put it into the same file, after a line ---"
            fail(f"there is no SLI {name!r} in this file", hint, spec.where("indicatorRef"))
        owner = indicators[name]
    elif "indicator" in spec.data:
        owner = spec.child("indicator")
    else:
        fail("an SLO has an indicator", "add indicator: or indicatorRef:", spec.where())
    found = owner.child("spec")
    if "thresholdMetric" in found.data:
        hint = "write a ratioMetric: good is the bucket le, total is the count"
        fail("a thresholdMetric is not read", hint, found.where("thresholdMetric", value=False))
    found.only(("description", "ratioMetric"), ("ratioMetric",))
    ratio = found.child("ratioMetric")
    if "raw" in ratio.data:
        hint = "write good (or bad) and total"
        fail("a ratio computed before is not read", hint, ratio.where("raw", value=False))
    ratio.only(("counter", "good", "bad", "total"), ("total",))
    if ("good" in ratio.data) == ("bad" in ratio.data):
        fail("a ratio has good or bad, and total", "write one of them", ratio.where())
    return ratio


def _window_s(window: Node) -> float:
    window.only(("duration", "isRolling", "calendar"), ("duration",))
    if "calendar" in window.data:
        hint = "write isRolling: true and a duration"
        fail("a calendar window is not read", hint, window.where("calendar", value=False))
    return window.get("duration", _period_s)


def _meaning(ratio: Node) -> tuple[float, tuple[str, ...]]:
    share = "good" if "good" in ratio.data else "bad"
    total, counted = (_metric_query(ratio.child(key)) for key in ("total", share))
    return _ratio(total, counted, good=share == "good")


def _metric_query(metric: Node) -> _Query:
    metric.only(("metricSource",), ("metricSource",))
    source = metric.child("metricSource")
    if str(source.data.get("type", "Prometheus")).lower() != "prometheus":
        hint = "only queries of Prometheus are read"
        fail(f"{source.data['type']} is not read", hint, source.where("type"))
    spec = source.child("spec")
    if "query" not in spec.data:
        fail("'query' is missing", "add a line query: …", spec.where())
    return _Query(spec.get("query", _text), spec.where("query"))


# ---- Sloth -------------------------------------------------------------------------------------


def _sloth(root: Node) -> Iterator[Slo]:
    root.only(("version", "service", "labels", "slos"), ("version", "service", "slos"))
    if root.data["version"] != _SLOTH:
        fail(f"{root.data['version']!r} is not read", f"write {_SLOTH}", root.where("version"))
    for slo in root.items("slos"):
        slo.only(
            ("name", "description", "objective", "labels", "sli", "alerting"),
            ("name", "objective", "sli"),
        )
        sli = slo.child("sli")
        for other in ("raw", "plugin"):
            if other in sli.data:
                hint = "write events: with error_query and total_query"
                fail(f"sli.{other} is not read", hint, sli.where(other, value=False))
        sli.only(("events",), ("events",))
        events = sli.child("events")
        keys = ("total_query", "error_query")
        events.only(keys, keys)
        total, bad = (_Query(events.get(key, _text), events.where(key)) for key in keys)
        within_s, operations = _ratio(total, bad, good=False)
        target = slo.get("objective", functools.partial(_target, scale=100.0))
        place = slo.where()
        name = slo.get("name", _text)
        yield Slo(target, within_s, SLOTH_PERIOD_S, operations, name, f"{place.file}:{place.line}")


# ---- what a query means --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Query:
    text: str
    where: Where

    def refuse(self, why: str, hint: str) -> NoReturn:
        fail(why, hint, self.where)


@dataclass(frozen=True)
class _Selector:
    """``name{label op "value", …}``."""

    name: str
    matchers: dict[str, tuple[str, str]]


_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')
_SELECTOR = re.compile(
    r"(?P<name>[A-Za-z_:][\w:]*)\s*(?:\{(?P<labels>(?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*)\})?"
    r"\s*(?:\[[^\]]*\])?"
)
_OR_ZERO = re.compile(r"\s+or\s+(?:on\s*\(\s*\)\s*)?vector\s*\(\s*0\s*\)", re.IGNORECASE)
_WINDOW = re.compile(r"\{\{\s*\.window\s*\}\}")
_HINT = 'write sum(rate(NAME{job="…"}[5m])), good and bad told apart by code or by the bucket le'


def _ratio(total: _Query, counted: _Query, *, good: bool) -> tuple[float, tuple[str, ...]]:
    """``(within_s, operations)`` of ``counted`` among ``total``; ``within_s`` 0: by status."""
    whole = _terms(total)
    if len(whole) != 1:
        total.refuse("the total is not one counter", _HINT)
    operations = _scope(whole[0], total)
    terms = _terms(counted)
    if len(terms) == 2 and not good and terms[0] == whole[0]:
        # Bad is all but those in the bucket.
        terms, good = terms[1:], True
    if len(terms) != 1:
        counted.refuse("what is counted cannot be told", _HINT)
    term = terms[0]
    if "le" in term.matchers and good:
        return _bucket_s(term, whole[0], counted), operations
    if term.name != whole[0].name:
        counted.refuse(f"{term.name} is not a part of {whole[0].name}", "use one counter for both")
    told = _own_matchers(term, whole[0], counted)
    if not told or any(label not in _STATUS_LABELS for label in told):
        counted.refuse("not told apart by status or latency", _HINT)
    for operator, value in told.values():
        if not (_is_good(operator, value) if good else _is_bad(operator, value)):
            what = "good is not 200 and no 5xx" if good else "bad is not every 5xx and no 200"
            counted.refuse(what, 'write code=~"5.." for bad, code!~"5.." for good')
    return 0.0, operations


def _terms(query: _Query) -> list[_Selector]:
    """The selectors that ``query`` adds up; the second and later ones are taken off the first."""
    text = _OR_ZERO.sub("", _WINDOW.sub("1m", query.text))
    return [_selector(part, query) for part in _split(text)]


def _split(text: str) -> list[str]:
    """``a - b`` at the minus signs that stand outside of quotes, braces and brackets."""
    parts, depth, quoted, begun = [], 0, False, 0
    for index, char in enumerate(text):
        if char == '"' and text[index - 1 : index] != "\\":
            quoted = not quoted
        elif not quoted and char in "{[":
            depth += 1
        elif not quoted and char in "}]":
            depth -= 1
        elif char == "-" and not quoted and depth == 0:
            parts.append(text[begun:index])
            begun = index + 1
    return [*parts, text[begun:]]


def _selector(text: str, query: _Query) -> _Selector:
    bare = text.strip()
    # What is left of sum(rate(…)) when the parentheses and the functions are taken away.
    bare = re.sub(r"^[\s(]*(?:sum\s*\()?[\s(]*(?:(?:rate|increase)\s*\()?[\s(]*", "", bare)
    bare = re.sub(r"[\s)]*$", "", bare)
    match = _SELECTOR.fullmatch(bare)
    if match is None or match["name"] in ("sum", "rate", "increase", "avg", "max", "min"):
        query.refuse(f"not understood: {text.strip()[:60]}", _HINT)
    return _Selector(match["name"], _matchers(match["labels"] or "", query))


def _matchers(labels: str, query: _Query) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    at = 0
    while labels[at:].strip():
        match = _MATCHER.match(labels, at)
        if match is None or match[1] in found:
            query.refuse(f"labels not understood: {labels[at : at + 40]}", _HINT)
        found[match[1]] = (match[2], match[3].replace("\\\\", "\\"))
        at = match.end()
        at += labels[at : at + 1] == ","
    return found


def _scope(total: _Selector, query: _Query) -> tuple[str, ...]:
    """The operations that the total is of; nothing else may narrow it."""
    operations: tuple[str, ...] = ()
    for label, (operator, value) in total.matchers.items():
        if label in _OPERATION_LABELS and operator in ("=", "=~"):
            operations = tuple(value.split("|"))
            if not all(re.fullmatch(r"\w[\w -]*", name) for name in operations):
                query.refuse(f'{label}="{value}" names no operations', 'write op=~"upload|image"')
        elif label == "le" and total.name.endswith("_bucket") and value == "+Inf":
            continue
        elif label not in _SCOPE_LABELS:
            hint = "clients know operations (op) only; leave the label out"
            query.refuse(f"clients cannot tell requests by {label}", hint)
    return operations


def _own_matchers(term: _Selector, total: _Selector, query: _Query) -> dict[str, tuple[str, str]]:
    """What ``term`` says beyond ``total``; it must say all that ``total`` does."""
    base = {label: said for label, said in total.matchers.items() if label != "le"}
    for label, said in base.items():
        if term.matchers.get(label) != said:
            query.refuse(f"total has {label}, this has not", "select the same requests in both")
    return {label: said for label, said in term.matchers.items() if label not in base}


def _bucket_s(term: _Selector, total: _Selector, query: _Query) -> float:
    """The bound of a latency bucket in seconds."""
    stem = term.name.removesuffix("_bucket")
    if stem == term.name or total.name not in (f"{stem}_count", f"{stem}_bucket"):
        hint = "good is NAME_bucket with le, total is NAME_count"
        query.refuse(f"{term.name} and {total.name} are not of one histogram", hint)
    scale = next((s for unit, s in _UNITS_S.items() if stem.endswith(unit)), None)
    if scale is None:
        query.refuse(f"the unit of {stem} is not in its name", "…_seconds or …_milliseconds")
    told = _own_matchers(term, total, query)
    operator, value = told.pop("le", ("", ""))
    if operator != "=" or not re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value) or float(value) <= 0:
        query.refuse("the bucket is not one", 'write le="0.2"')
    for label, (how, status) in told.items():
        if label not in _STATUS_LABELS or not _is_good(how, status):
            query.refuse(f"the bucket is narrowed by {label}", "select the same requests in both")
    return round(float(value) * scale, 9)


def _is_good(operator: str, value: str) -> bool:
    broken = any(_takes(operator, value, status) for status in _SERVER_ERRORS)
    return _takes(operator, value, "200") and not broken


def _is_bad(operator: str, value: str) -> bool:
    broken = all(_takes(operator, value, status) for status in _SERVER_ERRORS)
    return broken and not _takes(operator, value, "200")


def _takes(operator: str, value: str, status: str) -> bool:
    """Whether a matcher takes a status code. ``2xx`` and ``5`` stand for their class."""
    texts = {status, f"{status[0]}xx", f"{status[0]}XX", status[0]}
    try:
        if operator in ("=~", "!~"):
            hit = any(re.fullmatch(value, text) for text in texts)
        else:
            hit = value in texts
    except re.error:
        return False
    return hit if operator in ("=", "=~") else not hit


# ---- values --------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not text; write some words")
    return " ".join(value.split())


def _target(value: object, scale: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number; write {0.999 * scale:g}")
    return target_of(round(float(value) / scale, 9))


def _period_s(value: object) -> float:
    match = _PERIOD.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError(f"{value!r} is not a period read here; write one such as 30d or 4w")
    return int(match[1]) * _PERIOD_UNITS_S[match[2]]

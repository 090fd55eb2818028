"""Label and field selectors: parsed once, then asked per object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from harness.lab.kube.apierror import bad_request
from harness.lab.kube.objects import Obj, at

LabelMatch = Callable[[Mapping[str, str]], bool]
ObjectMatch = Callable[[Obj], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$")
_ORDER = re.compile(rf"^({_KEY})\s*([<>])\s*(-?\d+)$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")


def _split(text: str) -> list[str]:
    """Split on commas that are not inside parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _requirement(text: str) -> LabelMatch:
    if found := _SET.match(text):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(text):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _ORDER.match(text):
        key, operator, bound = found.group(1), found.group(2), int(found.group(3))
        return lambda labels: _in_order(labels.get(key), operator, bound)
    if found := _EXISTS.match(text):
        absent, key = found.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise bad_request(f"unable to parse requirement: {text!r} is not a label selector")


def _in_order(value: str | None, operator: str, bound: int) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > bound if operator == ">" else number < bound


def label_selector(text: str) -> LabelMatch:
    """Match for ``a=b,c!=d,e in (f,g),h,!i``. Raises ApiError 400 if it cannot be parsed."""
    requirements = [_requirement(part) for part in _split(text)]
    return lambda labels: all(matches(labels) for matches in requirements)


def selector_object(selector: Obj | None) -> LabelMatch:
    """Match for a ``LabelSelector`` object; None matches nothing, ``{}`` everything."""
    if selector is None:
        return lambda labels: False
    tests: list[LabelMatch] = [
        lambda labels, k=key, v=value: labels.get(k) == v
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    tests += [_expression(e) for e in selector.get("matchExpressions") or ()]
    return lambda labels: all(matches(labels) for matches in tests)


def _expression(expression: Obj) -> LabelMatch:
    key, operator = expression.get("key", ""), expression.get("operator")
    values = set(expression.get("values") or ())
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    raise bad_request(f"{operator!r} is not a valid label selector operator")


def selector_text(selector: Obj | None) -> str:
    """The textual form of a ``LabelSelector`` object (as in ``status.selector`` of a scale)."""
    selector = selector or {}
    parts = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    words = {"In": "in", "NotIn": "notin"}
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        if operator in words:
            parts.append(f"{key} {words[operator]} ({','.join(expression['values'])})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def field_selector(text: str, supported: frozenset[str]) -> ObjectMatch:
    """Match for ``metadata.name=x,status.phase!=Running``.

    ``supported`` are the dotted paths this kind can be selected by; others raise
    ApiError 400, as on a real server.
    """
    tests: list[tuple[str, bool, str]] = []
    for part in _split(text):
        found = re.match(r"^([^=!]+)(==|=|!=)(.*)$", part)
        if not found:
            raise bad_request(f"invalid field selector {part!r}: use path=value or path!=value")
        path, operator, value = (group.strip() for group in found.groups())
        if path not in supported:
            raise bad_request(f'field label not supported: "{path}"')
        tests.append((path, operator != "!=", value))
    return lambda obj: all((_as_text(at(obj, p)) == want) is equal for p, equal, want in tests)

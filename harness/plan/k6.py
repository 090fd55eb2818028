"""Thresholds as k6 writes them (``http_req_duration: p(95)<200``), read as objectives of ours.

What is judged is what the objective of ours says, which is at least as strict: latency runs
from the planned instant, and what did not succeed is slower than anything. An expression of
which that is not so is refused. Format: https://grafana.com/docs/k6/latest/using-k6/thresholds/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from harness.plan.model import Availability, ErrorRate, Latency, Objective, Throughput

_KEY = re.compile(r"(?P<metric>[a-z_0-9]+)(?:\{(?P<tags>[^{}]*)\})?")
_EXPRESSION = re.compile(
    r"(?P<what>p\((?P<rank>\d+(?:\.\d+)?)\)|[a-z]+)\s*(?P<sign><=|>=|<|>|===?|!=)\s*"
    r"(?P<value>\d+(?:\.\d+)?)"
)
#: Tags by which k6 scripts tell requests apart that say which operation is meant.
_OPERATION_TAGS = ("op", "operation", "name")
METRICS = ("http_req_duration", "http_req_failed", "http_reqs", "checks")


def is_threshold(key: object) -> bool:
    """Whether a key of an objective is a metric of k6, with or without a tag."""
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    return match is not None and (match["metric"] in METRICS or key_is_k6s(match["metric"]))


def key_is_k6s(metric: str) -> bool:
    """Whether the name is one of k6's own metrics, known to us or not."""
    return metric.startswith(("http_req", "iteration", "data_", "vus", "grpc_req", "ws_"))


def operation_of(key: str) -> str | None:
    """The operation that the tag of ``key`` names, or None.

    Raises ValueError for a metric or a tag that says nothing here.
    """
    match = _KEY.fullmatch(key)
    assert match is not None
    if match["metric"] not in METRICS:
        known = ", ".join(METRICS)
        raise ValueError(f"{match['metric']} of k6 has no counterpart here; one of {known}")
    if not match["tags"]:
        return None
    tag, colon, value = match["tags"].partition(":")
    if tag.strip() not in _OPERATION_TAGS or not colon or not value.strip() or "," in value:
        raise ValueError(f"{{{match['tags']}}} cannot be told here; the one tag is {{op:upload}}")
    return value.strip().strip("\"'")


def parse_threshold(key: str, expression: object, **where: Any) -> Objective:
    """The objective that says what ``key: expression`` does.

    ``where`` is ``phases``, ``line`` and ``operations``; its ``text`` is worded here.
    Raises ValueError with what can be written instead.
    """
    said = expression.strip() if isinstance(expression, str) else ""
    match = _EXPRESSION.fullmatch(said)
    if match is None:
        raise ValueError(
            f"{expression!r} is not a threshold; write p(95)<200, rate<0.01 or rate>0.99"
        )
    metric, sign, value = key.partition("{")[0], match["sign"], float(match["value"])
    build = _BUILDERS[metric]
    found = build(match, sign, value)
    if found is None:
        raise ValueError(f"{metric} cannot be judged by {said!r}; write {_HOW[metric]}")
    kind, words, fields = found
    named = where.get("operations")
    of = f" for {', '.join(named)}" if named else ""
    text = f"{kind.kind}: {words}{of} (k6 {key}: {said})"
    objective: Objective = kind(text=text, **fields, **where)
    return objective


_Found = tuple[Any, str, dict[str, float]] | None


def _duration(match: re.Match[str], sign: str, value: float) -> _Found:
    """Milliseconds; a quantile that has to be below them."""
    ranks = {"med": 50.0, "max": 100.0}
    rank = float(match["rank"]) if match["rank"] else ranks.get(match["what"], 0.0)
    if not 0 < rank <= 100 or sign not in ("<", "<=") or value <= 0:
        return None
    fields = {"fraction": round(rank / 100, 9), "below_s": round(value / 1e3, 9)}
    return Latency, f"p{rank:g} below {value:g}ms", fields


def _failed(match: re.Match[str], sign: str, value: float) -> _Found:
    if match["what"] != "rate" or sign not in ("<", "<=") or not 0 <= value <= 1:
        return None
    # An error rate has to be below its bound: for ≤ the next number above it.
    below = math.nextafter(value, 2.0) if sign == "<=" else value
    if below == 0:
        return None
    return ErrorRate, f"{'below' if sign == '<' else 'at most'} {value * 100:g} %", {"below": below}


def _checks(match: re.Match[str], sign: str, value: float) -> _Found:
    """Every answer is checked by whoever sends it, so checks are availability."""
    if match["what"] != "rate" or sign not in (">", ">=") or not 0 <= value <= 1:
        return None
    at_least = math.nextafter(value, 2.0) if sign == ">" else value
    if at_least > 1:
        return None
    words = f"{'above' if sign == '>' else 'at least'} {value * 100:g} %"
    return Availability, words, {"at_least": at_least}


def _reqs(match: re.Match[str], sign: str, value: float) -> _Found:
    if match["what"] != "rate" or sign not in (">", ">=") or value <= 0:
        return None
    per_s = math.nextafter(value, math.inf) if sign == ">" else value
    words = f"{'above' if sign == '>' else 'at least'} {value:g}/s"
    return Throughput, words, {"at_least": 0.0, "at_least_per_s": per_s}


_BUILDERS: dict[str, Callable[[re.Match[str], str, float], _Found]] = {
    "http_req_duration": _duration,
    "http_req_failed": _failed,
    "checks": _checks,
    "http_reqs": _reqs,
}
_HOW = {
    "http_req_duration": "p(95)<200 (milliseconds), med<100 or max<1000",
    "http_req_failed": "rate<0.01",
    "checks": "rate>0.99",
    "http_reqs": "rate>100 (a second)",
}

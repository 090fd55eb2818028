"""What is worth recording of a HorizontalPodAutoscaler (``autoscaling/v2``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What Kubernetes allows where nothing else is said.
TOLERANCE = 0.1
#: Where each type of metric keeps its source.
_SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([numkMGTPE]|[KMGTPE]i)?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
#: The fields in which a target is said, each in what it is counted in by the status.
_PER_POD = ("averageUtilization", "averageValue")


def path(namespace: str) -> str:
    """The list of a namespace's autoscalers."""
    return f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"


def autoscaler_seen(hpa: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds, pods, metrics and what it says of itself.

    ``scales``: name of what it scales. ``metrics``: ``name``, ``value`` and ``target`` in one
    unit, whose ratio decides; ``value`` is None where it is not known. ``tolerance``: of that
    ratio. ``active``: whether it could tell how many pods there should be, else ``why`` not.
    """
    spec, status = hpa.get("spec") or {}, hpa.get("status") or {}
    ref = spec.get("scaleTargetRef") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    bad = [
        conditions[name]
        for name in ("AbleToScale", "ScalingActive")
        if name in conditions and conditions[name].get("status") == "False"
    ]
    return {
        "scales": ref.get("name"),
        "kind": ref.get("kind"),
        "least": spec.get("minReplicas", 1),
        "most": spec.get("maxReplicas"),
        "current": status.get("currentReplicas", 0),
        "desired": status.get("desiredReplicas", 0),
        "active": not bad and "ScalingActive" in conditions,
        "why": "; ".join(f"{c.get('reason')}: {c.get('message')}" for c in bad),
        "limited": (conditions.get("ScalingLimited") or {}).get("reason"),
        "tolerance": _tolerance(spec),
        "metrics": _metrics(spec.get("metrics") or (), status.get("currentMetrics") or ()),
    }


def _tolerance(spec: Mapping[str, Any]) -> float:
    """Share of its target by which a metric may be above it before there are more pods."""
    rules = (spec.get("behavior") or {}).get("scaleUp") or {}
    found = quantity(rules.get("tolerance"))
    return TOLERANCE if found is None else found


def _metrics(specs: Any, seen: Any) -> list[dict[str, Any]]:
    known = {_name(metric): metric for metric in seen if metric.get("type")}
    found = []
    for spec in specs:
        target = _source(spec).get("target") or {}
        current = _source(known.get(_name(spec)) or {}).get("current") or {}
        key = next((k for k in (*_PER_POD, "value") if target.get(k) is not None), "")
        found.append(
            {
                "name": _name(spec),
                "value": quantity(current.get(key)),
                "target": quantity(target.get(key)),
            }
        )
    return found


def _source(metric: Mapping[str, Any]) -> Mapping[str, Any]:
    return metric.get(_SOURCES.get(str(metric.get("type")), "")) or {}


def _name(metric: Mapping[str, Any]) -> str:
    source = _source(metric)
    about = source.get("metric") or {}
    of = source.get("describedObject") or {}
    words = (source.get("container"), of.get("kind"), of.get("name"))
    name = source.get("name") or about.get("name") or ""
    return "/".join(str(word) for word in (*words, name) if word)


def quantity(value: object) -> float | None:
    """A quantity (``250m``, ``80``, ``1Gi``) as a number; None where it is none."""
    found = _QUANTITY.fullmatch(str(value))
    if value is None or found is None:
        return None
    suffix = found[2] or ""
    if suffix in _BINARY:
        return float(found[1]) * 1024.0 ** (_BINARY.index(suffix) + 1)
    return float(f"{found[1]}e{_DECIMAL[suffix]}") if suffix else float(found[1])

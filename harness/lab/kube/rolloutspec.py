"""What a Rollout and an AnalysisTemplate may say: what is filled in, and what is refused.

Of ``argoproj.io/v1alpha1`` the lab serves what is listed here. A field it does not know is
refused rather than left without effect: a canary whose guard does nothing looks like a good one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from harness.lab.kube import conditions, defaults
from harness.lab.kube.objects import Obj, at

_CANARY_FIELDS = frozenset(
    {
        "abortScaleDownDelaySeconds",
        "analysis",
        "canaryService",
        "maxSurge",
        "maxUnavailable",
        "scaleDownDelaySeconds",
        "stableService",
        "steps",
        "trafficRouting",
    }
)
_BLUE_GREEN_FIELDS = frozenset(
    {
        "abortScaleDownDelaySeconds",
        "activeService",
        "autoPromotionEnabled",
        "autoPromotionSeconds",
        "previewService",
        "scaleDownDelaySeconds",
    }
)

_METRIC = frozenset(
    {
        "consecutiveErrorLimit",
        "count",
        "failureCondition",
        "failureLimit",
        "inconclusiveLimit",
        "initialDelay",
        "interval",
        "name",
        "provider",
        "successCondition",
    }
)


def duration_s(text: Any) -> float:
    """Seconds of ``30``, ``"30"``, ``"1m30s"`` or ``"500ms"``. Raises ValueError."""
    if isinstance(text, int) or str(text).isdigit():
        return float(text)
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", str(text))
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(n) * units[unit] for n, unit in parts)


def default(obj: Obj) -> None:
    """What is filled in of a new Rollout, in place."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    defaults.pod_spec(template.setdefault("spec", {}))


def check(obj: Obj, old: Obj | None) -> defaults.Causes:
    """Why a Rollout is refused: as Kubernetes refuses a workload, or not served here."""
    causes = defaults.check_workload(obj, old)
    strategy = at(obj, "spec.strategy", {})
    if set(strategy) not in ({"canary"}, {"blueGreen"}):
        return [*causes, ("spec.strategy", "Required value: one of canary and blueGreen")]
    (name, given), *_ = strategy.items()
    known = _CANARY_FIELDS if name == "canary" else _BLUE_GREEN_FIELDS
    path = f"spec.strategy.{name}"
    causes += [(f"{path}.{field}", "not served here") for field in sorted(set(given) - known)]
    services = ("canaryService", "stableService") if name == "canary" else ("activeService",)
    needed = (*services, "trafficRouting") if name == "canary" else services
    causes += [(f"{path}.{field}", "Required value") for field in needed if not given.get(field)]
    for index, step in enumerate(given.get("steps") or ()):
        causes += [(f"{path}.steps[{index}]", why) for why in _step_problems(step)]
    return causes


def _step_problems(step: Obj) -> Iterable[str]:
    if set(step) == {"setWeight"}:
        weight = step["setWeight"]
        if not isinstance(weight, int) or not 0 <= weight <= 100:
            yield f"Invalid value: {weight}: a weight is from 0 to 100"
    elif set(step) == {"pause"}:
        try:
            duration_s((step["pause"] or {}).get("duration", 0))
        except ValueError as error:
            yield f"Invalid value: {error}"
    else:
        yield f"{', '.join(sorted(step))}: not served here"


def check_template(obj: Obj, old: Obj | None) -> defaults.Causes:
    """Why an AnalysisTemplate, or a run, is refused."""
    metrics = at(obj, "spec.metrics", [])
    causes: defaults.Causes = [] if metrics else [("spec.metrics", "Required value")]
    for index, metric in enumerate(metrics):
        path = f"spec.metrics[{index}]"
        causes += [(f"{path}.{field}", "not served here") for field in set(metric) - _METRIC]
        if not metric.get("name"):
            causes.append((f"{path}.name", "Required value"))
        if not at(metric, "provider.prometheus.query"):
            causes.append((f"{path}.provider.prometheus.query", "Required value"))
        for field in ("successCondition", "failureCondition"):
            problem = conditions.check(metric[field]) if metric.get(field) else ""
            causes += [(f"{path}.{field}", problem)] if problem else []
        for field in ("interval", "initialDelay"):
            try:
                duration_s(metric.get(field, 0))
            except ValueError as error:
                causes.append((f"{path}.{field}", f"Invalid value: {error}"))
    return causes

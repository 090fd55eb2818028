"""HorizontalPodAutoscaler controller: as many pods as their load asks for.

Fields, conditions and reasons are those of ``autoscaling/v2``; the sums are those of "Algorithm
details" and "Configurable scaling behavior" in the Kubernetes documentation of the
HorizontalPodAutoscaler. Of its metrics it knows the type ``Pods`` with an ``AverageValue``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.lab.kube import kinds
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import (
    Obj,
    at,
    is_condition_true,
    is_terminating,
    labels_of,
    meta,
    name_of,
    namespace_of,
    quantity,
    quantity_text,
    set_condition,
)
from harness.lab.kube.registry import Registry
from harness.lab.kube.selectors import selector_object
from harness.lab.kube.store import Change

#: Kubernetes looks every 15 s; what takes minutes there takes seconds here.
SYNC_S = 2.0
TOLERANCE = 0.1
_COMPONENT = "horizontal-pod-autoscaler"

#: Value of a metric by pod, or why there is none.
Values = Mapping[str, float] | str
#: Asks what a metric is at some pods (their names); calls back once.
Measure = Callable[[str, Sequence[str], Callable[[Values], None]], None]

_DEFAULT_UP: Obj = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Percent", "value": 100, "periodSeconds": 15},
        {"type": "Pods", "value": 4, "periodSeconds": 15},
    ],
}
_DEFAULT_DOWN: Obj = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


# ---- how many ------------------------------------------------------------------------------------


def wanted(values: Mapping[str, float], ready: Sequence[str], target: float, replicas: int) -> int:
    """Pods that one metric asks for: ``ceil(ready x average / target)``, or as many as there are
    when that is within the tolerance.

    A ready pod without a value counts as one at its target when there may be fewer, and as idle
    when there may be more; if that turns the answer round, there are as many as before.
    """
    known = [values[pod] for pod in ready if pod in values]
    if not known:
        raise ValueError("no metrics returned from custom metrics API")
    ratio = sum(known) / len(known) / target
    missing = len(ready) - len(known)
    if not missing:
        if abs(ratio - 1.0) <= TOLERANCE:
            return replicas
        return math.ceil(ratio * len(known))
    filled = sum(known) + (missing * target if ratio < 1.0 else 0.0)
    again = filled / len(ready) / target
    turned = (ratio < 1.0) != (again < 1.0)
    if turned or abs(again - 1.0) <= TOLERANCE:
        return replicas
    count = math.ceil(again * len(ready))
    return replicas if (count < replicas) != (ratio < 1.0) else count


@dataclass
class Past:
    """What one autoscaler recommended and did: ``(when, pods)`` and ``(when, pods changed)``, in
    seconds of a clock that only goes forward."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    changed: list[tuple[float, int]] = field(default_factory=list)

    def forget(self, before_s: float) -> None:
        """Drop what is older."""
        self.recommended = [r for r in self.recommended if r[0] >= before_s]
        self.changed = [c for c in self.changed if c[0] >= before_s]


@dataclass(frozen=True)
class Decision:
    """``replicas`` and why it is not what the metrics ask for (reason and words, or empty):
    ``held`` by a stabilization window, ``limited`` by a policy or a bound."""

    replicas: int
    held: str = ""
    limited: tuple[str, str] = ("", "")


def decided(spec: Obj, asked: int, replicas: int, past: Past, now_s: float) -> Decision:
    """From what metrics ask for to how many there shall be: stabilization, policies, bounds."""
    behavior = spec.get("behavior") or {}
    up = {**_DEFAULT_UP, **(behavior.get("scaleUp") or {})}
    down = {**_DEFAULT_DOWN, **(behavior.get("scaleDown") or {})}
    past.recommended.append((now_s, asked))
    steady = _stabilized(past, asked, replicas, up, down, now_s)
    held = ""
    if steady != asked:
        held = "ScaleDownStabilized" if asked < steady else "ScaleUpStabilized"
    least, most = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
    if steady > replicas:
        limit = _up_limit(up, replicas, past, now_s)
        top = min(limit, most)
        if steady > top:
            why = ("ScaleUpLimit", "the desired replica count is increasing faster than the "
                   "maximum scale rate") if limit < most else _TOO_MANY  # fmt: skip
            return Decision(max(top, least), held, why)
    elif steady < replicas:
        limit = _down_limit(down, replicas, past, now_s)
        bottom = max(limit, least)
        if steady < bottom:
            why = ("ScaleDownLimit", "the desired replica count is decreasing faster than the "
                   "maximum scale rate") if limit > least else _TOO_FEW  # fmt: skip
            return Decision(min(bottom, most), held, why)
    if steady < least:
        return Decision(least, held, _TOO_FEW)
    if steady > most:
        return Decision(most, held, _TOO_MANY)
    return Decision(steady, held)


_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")


def _stabilized(past: Past, asked: int, replicas: int, up: Obj, down: Obj, now_s: float) -> int:
    """Up only to the least, down only to the most of what was recommended within the window."""
    within_up = [n for t, n in past.recommended if t >= now_s - up["stabilizationWindowSeconds"]]
    within_down = [
        n for t, n in past.recommended if t >= now_s - down["stabilizationWindowSeconds"]
    ]
    low, high = min((*within_up, asked)), max((*within_down, asked))
    return low if replicas < low else high if replicas > high else replicas


def _up_limit(rules: Obj, replicas: int, past: Past, now_s: float) -> int:
    limits = []
    for policy in _policies(rules):
        before = replicas - _changed(past, policy, now_s, added=True)
        if policy["type"] == "Pods":
            limits.append(before + int(policy["value"]))
        else:
            limits.append(math.ceil(before * (1 + policy["value"] / 100)))
    if rules["selectPolicy"] == "Disabled":
        return replicas
    return max(limits) if rules["selectPolicy"] == "Max" else min(limits)


def _down_limit(rules: Obj, replicas: int, past: Past, now_s: float) -> int:
    limits = []
    for policy in _policies(rules):
        before = replicas + _changed(past, policy, now_s, added=False)
        if policy["type"] == "Pods":
            limits.append(before - int(policy["value"]))
        else:
            limits.append(int(before * (1 - policy["value"] / 100)))
    if rules["selectPolicy"] == "Disabled":
        return replicas
    return min(limits) if rules["selectPolicy"] == "Max" else max(limits)


def _policies(rules: Obj) -> list[Obj]:
    return list(rules.get("policies") or ())


def _changed(past: Past, policy: Obj, now_s: float, *, added: bool) -> int:
    since_s = now_s - policy["periodSeconds"]
    mine = (n for t, n in past.changed if t >= since_s and (n > 0) == added)
    return sum(abs(n) for n in mine)


# ---- the loop ------------------------------------------------------------------------------------


class AutoscalerController:
    """Looks at each autoscaler every :data:`SYNC_S` and scales what it names.

    Seeded defects: ``acts`` False, and it measures and never scales; ``scales_in`` False, and it
    never takes a pod away.
    """

    def __init__(self, registry: Registry, measure: Measure) -> None:
        self._registry = registry
        self._measure = measure
        self._due_s: dict[Key, float] = {}
        self._past: dict[Key, Past] = {}
        self.acts = True
        self.scales_in = True

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.AUTOSCALER.storage:
            yield namespace_of(change.obj), name_of(change.obj)

    def reconcile(self, key: Key) -> float | None:
        hpa = self._registry.store.get(kinds.AUTOSCALER.storage, *key)
        if hpa is None or is_terminating(hpa):
            self._due_s.pop(key, None)
            self._past.pop(key, None)
            return None
        now_s = self._registry.clock.monotonic_s()
        due_s = self._due_s.get(key, now_s)
        if now_s < due_s:
            return due_s - now_s
        self._due_s[key] = now_s + SYNC_S
        self._look(key, hpa)
        return SYNC_S

    def _look(self, key: Key, hpa: Obj) -> None:
        target = self._target(hpa)
        if target is None:
            ref = at(hpa, "spec.scaleTargetRef", {})
            why = f'the target {ref.get("kind")} "{ref.get("name")}" is not found'
            self._cannot(key, "AbleToScale", "FailedGetScale", why)
            return
        pods = self._pods(target)
        metrics = at(hpa, "spec.metrics", ())
        unknown = [m for m in metrics if not _is_known(m)]
        if unknown or not metrics:
            kind = unknown[0].get("type") if unknown else "none"
            why = f"metrics of type {kind} are not served here"
            self._cannot(key, "ScalingActive", "InvalidMetricSourceType", why)
            return
        answers: dict[int, Values] = {}

        def answered(index: int, values: Values) -> None:
            answers[index] = values
            if len(answers) == len(metrics):
                self._decide(key, [answers[n] for n in range(len(metrics))])

        for index, metric in enumerate(metrics):
            name = metric["pods"]["metric"]["name"]
            self._measure(name, pods, lambda values, index=index: answered(index, values))

    def _target(self, hpa: Obj) -> Obj | None:
        kind, name = self._target_kind(hpa)
        return self._registry.store.get(kind.storage, namespace_of(hpa), name) if kind else None

    def _target_kind(self, hpa: Obj) -> tuple[kinds.Kind | None, str]:
        ref = at(hpa, "spec.scaleTargetRef", {})
        kind = self._registry.kinds.by_object(ref.get("apiVersion", ""), ref.get("kind", ""))
        return (kind if kind and kind.has_scale else None), ref.get("name", "")

    def _pods(self, target: Obj) -> list[str]:
        """Names of the target's pods that are ready."""
        matches = selector_object(at(target, "spec.selector", {}))
        found = self._registry.store.list(kinds.POD.storage, namespace_of(target))
        return [
            name_of(pod)
            for pod in found
            if matches(labels_of(pod))
            and not is_terminating(pod)
            and is_condition_true(pod, "Ready")
        ]

    def _decide(self, key: Key, answers: Sequence[Values]) -> None:
        """With all metrics measured: the most any of them asks for; fewer only if all are known."""
        hpa = self._registry.store.get(kinds.AUTOSCALER.storage, *key)
        target = self._target(hpa) if hpa is not None else None
        if hpa is None or target is None:
            return
        pods, replicas = self._pods(target), int(at(target, "spec.replicas", 1))
        if not replicas:
            self._cannot(
                key, "ScalingActive", "ScalingDisabled", "scaling is disabled: no replicas"
            )
            return
        asked, seen, wrong = [], [], ""
        for metric, values in zip(at(hpa, "spec.metrics", ()), answers, strict=True):
            target_value = quantity(metric["pods"]["target"]["averageValue"])
            try:
                if isinstance(values, str):
                    raise ValueError(values)
                asked.append(wanted(values, pods, target_value, replicas))
                known = [values[pod] for pod in pods if pod in values]
                seen.append(_measured(metric, sum(known) / len(known)))
            except ValueError as error:
                wrong = f"unable to get metric {metric['pods']['metric']['name']}: {error}"
        if not asked or (wrong and max(asked) < replicas):
            self._cannot(key, "ScalingActive", "FailedGetPodsMetric", wrong)
            return
        now_s = self._registry.clock.monotonic_s()
        past = self._past.setdefault(key, Past())
        decision = decided(at(hpa, "spec"), max(asked), replicas, past, now_s)
        past.forget(now_s - 3600.0)
        if not self.acts or (not self.scales_in and decision.replicas < replicas):
            decision = Decision(replicas)
        self._scale(hpa, target, decision, replicas, past, now_s)
        self._write(key, target, decision, seen, scaled=decision.replicas != replicas)

    def _scale(
        self, hpa: Obj, target: Obj, decision: Decision, replicas: int, past: Past, now_s: float
    ) -> None:
        if decision.replicas == replicas:
            return
        kind, name = self._target_kind(hpa)
        assert kind is not None

        def change(obj: Obj) -> None:
            obj["spec"]["replicas"] = decision.replicas

        self._registry.mutate(kind, namespace_of(target), name, change)
        past.changed.append((now_s, decision.replicas - replicas))
        way = "above" if decision.replicas > replicas else "below"
        message = f"New size: {decision.replicas}; reason: pods metrics {way} target"
        self._registry.events.record(hpa, "SuccessfulRescale", message, source=_COMPONENT)

    def _write(
        self, key: Key, target: Obj, decision: Decision, seen: list[Obj], *, scaled: bool
    ) -> None:
        now = self._registry.now()
        current = int(at(target, "status.replicas", 0))

        def change(obj: Obj) -> None:
            status = obj.setdefault("status", {})
            status["observedGeneration"] = meta(obj).get("generation", 1)
            status["currentReplicas"] = current
            status["desiredReplicas"] = decision.replicas
            status["currentMetrics"] = seen
            if scaled:
                status["lastScaleTime"] = now
            if scaled:
                able, words = "SucceededRescale", "the HPA was able to update the target scale"
            else:
                able, words = decision.held or "ReadyForNewScale", "the recommended size is kept"
            _set(obj, "AbleToScale", "True", now, able, words)
            words = "the HPA was able to calculate a replica count from pods metrics"
            _set(obj, "ScalingActive", "True", now, "ValidMetricFound", words)
            reason, words = decision.limited
            status_of_limit = "True" if reason else "False"
            reason = reason or "DesiredWithinRange"
            words = words or "the desired count is within the acceptable range"
            _set(obj, "ScalingLimited", status_of_limit, now, reason, words)

        self._registry.mutate(kinds.AUTOSCALER, *key, change)

    def _cannot(self, key: Key, condition: str, reason: str, message: str) -> None:
        """Say why nothing can be decided; what was decided before stays."""
        now = self._registry.now()

        def change(obj: Obj) -> None:
            _set(obj, condition, "False", now, reason, message)

        self._registry.mutate(kinds.AUTOSCALER, *key, change)


def _is_known(metric: Obj) -> bool:
    return metric.get("type") == "Pods" and at(metric, "pods.target.type") == "AverageValue"


def _measured(metric: Obj, value: float) -> Obj:
    current: dict[str, Any] = {"averageValue": quantity_text(value)}
    about = {"name": metric["pods"]["metric"]["name"]}
    return {"type": "Pods", "pods": {"metric": about, "current": current}}


def _set(obj: Obj, condition: str, status: str, now: str, reason: str, message: str) -> None:
    obj.setdefault("status", {}).setdefault("conditions", [])
    set_condition(obj, condition, status, now, reason=reason, message=message)

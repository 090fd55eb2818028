"""Disruption budgets: how many pods may be evicted now."""

from __future__ import annotations

from collections.abc import Iterable

from harness.lab.kube import kinds
from harness.lab.kube.apierror import ApiError
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import (
    Obj,
    at,
    controller_of,
    int_or_percent,
    is_condition_true,
    labels_of,
    meta,
    name_of,
    namespace_of,
    set_condition,
)
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.replicasets import is_active
from harness.lab.kube.selectors import selector_object
from harness.lab.kube.store import Change


def budget_status(registry: Registry, budget: Obj) -> Obj:
    """currentHealthy, desiredHealthy, disruptionsAllowed, expectedPods of a budget, now."""
    matches = selector_object(at(budget, "spec.selector"))
    pods = [
        p
        for p in registry.store.list(kinds.POD.storage, namespace_of(budget))
        if is_active(p) and matches(labels_of(p))
    ]
    expected = _expected(registry, pods)
    healthy = sum(is_condition_true(p, "Ready") for p in pods)
    if (maximum := at(budget, "spec.maxUnavailable")) is not None:
        desired = max(0, expected - int_or_percent(maximum, expected, round_up=True))
    else:
        minimum = at(budget, "spec.minAvailable", 1)
        desired = int_or_percent(minimum, expected, round_up=True)
    return {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": max(0, healthy - desired) if expected else 0,
        "expectedPods": expected,
    }


def _expected(registry: Registry, pods: list[Obj]) -> int:
    """Pods there should be: the scale of the controllers, one for each bare pod."""
    total, seen = 0, set()
    for pod in pods:
        owner = controller_of(pod)
        if owner is None:
            total += 1
            continue
        found = registry.store.get(
            kinds.REPLICASET.storage, namespace_of(pod), owner.get("name", "")
        )
        above = controller_of(found) if found else None
        kind = {"Deployment": kinds.DEPLOYMENT, "Rollout": kinds.ROLLOUT}.get(
            above["kind"] if above else ""
        )
        if above and kind:
            found = registry.store.get(kind.storage, namespace_of(pod), above["name"]) or found
        identity = meta(found).get("uid") if found else owner["uid"]
        if identity not in seen:
            seen.add(identity)
            same = sum((controller_of(p) or {}).get("uid") == owner["uid"] for p in pods)
            total += at(found, "spec.replicas", same) if found else same
    return total


class DisruptionController:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.DISRUPTION_BUDGET.storage:
            yield namespace_of(change.obj), name_of(change.obj)
        elif change.resource in (
            kinds.POD.storage,
            kinds.DEPLOYMENT.storage,
            kinds.ROLLOUT.storage,
        ):
            for budget in self._registry.store.list(
                kinds.DISRUPTION_BUDGET.storage, namespace_of(change.obj)
            ):
                yield namespace_of(budget), name_of(budget)

    def reconcile(self, key: Key) -> float | None:
        budget = self._registry.store.get(kinds.DISRUPTION_BUDGET.storage, *key)
        if budget is None:
            return None
        status = budget_status(self._registry, budget)

        def change(obj: Obj) -> None:
            obj.setdefault("status", {}).update(status)
            obj["status"]["observedGeneration"] = meta(obj).get("generation", 1)
            allowed = status["disruptionsAllowed"] > 0
            set_condition(
                obj,
                "DisruptionAllowed",
                "True" if allowed else "False",
                self._registry.now(),
                reason="SufficientPods" if allowed else "InsufficientPods",
            )

        self._registry.mutate(kinds.DISRUPTION_BUDGET, *key, change)
        return None


def evict(registry: Registry, namespace: str, name: str, options: DeleteOptions) -> None:
    """Delete a pod if its budget allows it. Raises ApiError 404, 429, 500 (two budgets)."""
    pod = registry.get(kinds.POD, namespace, name)
    budgets = [
        b
        for b in registry.store.list(kinds.DISRUPTION_BUDGET.storage, namespace)
        if selector_object(at(b, "spec.selector"))(labels_of(pod))
    ]
    if len(budgets) > 1:
        message = "This pod has more than one PodDisruptionBudget, which is not supported."
        raise ApiError(500, "InternalError", message)
    if budgets and is_active(pod):
        _ask(registry, budgets[0], pod)
    registry.delete(kinds.POD, namespace, name, options)


def _ask(registry: Registry, budget: Obj, pod: Obj) -> None:
    status = budget_status(registry, budget)
    enough_without = status["currentHealthy"] >= status["desiredHealthy"]
    if not is_condition_true(pod, "Ready") and enough_without:
        return  # it does not serve anyway
    if status["disruptionsAllowed"] > 0:
        return
    cause = (
        f"The disruption budget {name_of(budget)} needs {status['desiredHealthy']} healthy pods "
        f"and has {status['currentHealthy']} currently"
    )
    raise ApiError(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
        {"causes": [{"reason": "DisruptionBudget", "message": cause}]},
    )

"""Argo Rollouts' ``Rollout`` and the Deployment as plain JSON, and what they say of a delivery.

Field names are those of ``argoproj.io/v1alpha1`` as its controller writes them; a status is
only to be relied on once the controller has seen the generation it speaks of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

GROUP, VERSION, PLURAL = "argoproj.io", "v1alpha1", "rollouts"
#: The label by which pods and ReplicaSets of a Rollout carry their version.
HASH_LABEL = "rollouts-pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"


def path(namespace: str, name: str = "") -> str:
    """Path of the Rollouts of a namespace, or of one of them."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}" + (f"/{name}" if name else "")


def is_observed(item: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the spec as it is (a Rollout says it as text)."""
    seen = (item.get("status") or {}).get("observedGeneration")
    return str(seen) == str(item["metadata"].get("generation"))


def rollout_seen(rollout: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What is worth recording of a Rollout; ``pods`` are all that carry :data:`HASH_LABEL`."""
    spec, status = rollout.get("spec") or {}, rollout.get("status") or {}
    strategy = "blueGreen" if "blueGreen" in (spec.get("strategy") or {}) else "canary"
    canary = status.get("canary") or {}
    run = canary.get("currentBackgroundAnalysisRunStatus") or {}
    return {
        "strategy": strategy,
        "observed": is_observed(rollout),
        "phase": status.get("phase"),
        "message": status.get("message"),
        "abort": bool(status.get("abort")),
        "step": status.get("currentStepIndex"),
        "weight": _weight(status) if strategy == "canary" else None,
        "current": status.get("currentPodHash"),
        "stable": status.get("stableRS"),
        "active": (status.get("blueGreen") or {}).get("activeSelector"),
        "paused": [p.get("reason") for p in status.get("pauseConditions") or ()],
        "wanted": spec.get("replicas", 1),
        "updated": status.get("updatedReplicas", 0),
        "ready": status.get("readyReplicas", 0),
        "analysis": run.get("status"),
        "pods": _pods_by_version(rollout, pods),
    }


def _weight(status: Mapping[str, Any]) -> float:
    """Percentage of the users sent to the new version. Without traffic routing it is by pods."""
    weights = (status.get("canary") or {}).get("weights")
    if isinstance(weights, Mapping):
        return float((weights.get("canary") or {}).get("weight", 0))
    if status.get("currentPodHash") == status.get("stableRS") or not status.get("replicas"):
        return 0.0
    return round(100.0 * status.get("updatedReplicas", 0) / status["replicas"], 1)


def _pods_by_version(
    rollout: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """hash → names of the pods of this Rollout that are here to stay."""
    wanted = ((rollout.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    found: dict[str, list[str]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if ended or pod["metadata"].get("deletionTimestamp") or not wanted:
            continue
        if wanted.items() <= labels.items() and HASH_LABEL in labels:
            found.setdefault(labels[HASH_LABEL], []).append(pod["metadata"]["name"])
    return {version: sorted(names) for version, names in sorted(found.items())}


def deployment_seen(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth recording of a Deployment; ``least``: pods its strategy keeps available."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    wanted = spec.get("replicas", 1)
    return {
        "observed": is_observed(deployment),
        "revision": (deployment["metadata"].get("annotations") or {}).get(_REVISION),
        "wanted": wanted,
        "updated": status.get("updatedReplicas", 0),
        "available": status.get("availableReplicas", 0),
        "total": status.get("replicas", 0),
        "least": wanted - _may_be_away(spec.get("strategy") or {}, wanted),
    }


def _may_be_away(strategy: Mapping[str, Any], wanted: int) -> int:
    """``maxUnavailable`` in pods, percentages rounded down; all of them with Recreate."""
    if strategy.get("type") == "Recreate":
        return wanted
    rolling = strategy.get("rollingUpdate") or {}
    away = _count(rolling.get("maxUnavailable", "25%"), wanted, round_up=False)
    surge = _count(rolling.get("maxSurge", "25%"), wanted, round_up=True)
    return away if away or surge else 1


def _count(value: Any, wanted: int, *, round_up: bool) -> int:
    text = str(value)
    if not text.endswith("%"):
        return int(text)
    share = int(text[:-1]) * wanted
    return -(-share // 100) if round_up else share // 100

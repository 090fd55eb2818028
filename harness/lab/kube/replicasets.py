"""ReplicaSet controller: keeps as many pods as the object says."""

from __future__ import annotations

from collections.abc import Iterable

from harness.lab.kube import kinds
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import (
    Obj,
    annotations_of,
    at,
    clone,
    condition,
    controller_of,
    is_condition_true,
    is_terminating,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_reference,
    parse_timestamp,
    uid_of,
)
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.selectors import selector_object
from harness.lab.kube.store import Change

_COMPONENT = "replicaset-controller"


def is_active(pod: Obj) -> bool:
    return not is_terminating(pod) and at(pod, "status.phase") not in ("Succeeded", "Failed")


class ReplicaSetController:
    """``replace_pods`` False is a seeded defect: pods that are lost are not replaced.

    Pods a ReplicaSet was never given (a new rollout, a higher scale) are still made.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._given: dict[str, int] = {}
        self.replace_pods = True

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.REPLICASET.storage:
            yield namespace_of(change.obj), name_of(change.obj)
        elif change.resource == kinds.POD.storage:
            for pod in (change.obj, change.old):
                owner = controller_of(pod) if pod else None
                if pod and owner and owner["kind"] == "ReplicaSet":
                    yield namespace_of(pod), owner["name"]

    def reconcile(self, key: Key) -> float | None:
        replicaset = self._registry.store.get(kinds.REPLICASET.storage, *key)
        if replicaset is None:
            return None
        pods = [p for p in self._pods(replicaset) if is_active(p)]
        if not is_terminating(replicaset):
            self._scale(replicaset, pods)
            pods = [p for p in self._pods(replicaset) if is_active(p)]
        return self._write_status(replicaset, pods)

    def _pods(self, replicaset: Obj) -> list[Obj]:
        """Pods it controls, orphans that match its selector adopted."""
        matches = selector_object(at(replicaset, "spec.selector"))
        found = []
        for pod in self._registry.store.list(kinds.POD.storage, namespace_of(replicaset)):
            owner = controller_of(pod)
            if owner is None and is_active(pod) and matches(labels_of(pod)):
                pod = self._adopt(replicaset, pod)
                owner = controller_of(pod)
            if owner and owner["uid"] == uid_of(replicaset):
                found.append(pod)
        return found

    def _adopt(self, replicaset: Obj, pod: Obj) -> Obj:
        def change(obj: Obj) -> None:
            refs = obj["metadata"].setdefault("ownerReferences", [])
            refs.append(owner_reference(replicaset))

        return self._registry.mutate(kinds.POD, namespace_of(pod), name_of(pod), change) or pod

    def _scale(self, replicaset: Obj, pods: list[Obj]) -> None:
        wanted = at(replicaset, "spec.replicas", 0)
        uid = uid_of(replicaset)
        given = max(min(self._given.get(uid, 0), wanted), min(len(pods), wanted))
        missing = wanted - (len(pods) if self.replace_pods else max(given, len(pods)))
        for _ in range(missing):
            self._create_pod(replicaset)
        self._given[uid] = min(wanted, max(given, len(pods)) + max(0, missing))
        for pod in sorted(pods, key=_least_worth)[: max(0, len(pods) - wanted)]:
            self._delete_pod(replicaset, pod)

    def _create_pod(self, replicaset: Obj) -> None:
        template = clone(at(replicaset, "spec.template"))
        metadata = template.setdefault("metadata", {})
        name = f"{name_of(replicaset)}-{self._registry.suffix()}"
        metadata.update(
            name=name,
            generateName=f"{name_of(replicaset)}-",
            namespace=namespace_of(replicaset),
            ownerReferences=[owner_reference(replicaset)],
        )
        self._registry.create(kinds.POD, namespace_of(replicaset), template)
        self._registry.events.record(
            replicaset, "SuccessfulCreate", f"Created pod: {name}", source=_COMPONENT
        )

    def _delete_pod(self, replicaset: Obj, pod: Obj) -> None:
        name = name_of(pod)
        self._registry.delete(kinds.POD, namespace_of(pod), name, DeleteOptions())
        self._registry.events.record(
            replicaset, "SuccessfulDelete", f"Deleted pod: {name}", source=_COMPONENT
        )

    def _write_status(self, replicaset: Obj, pods: list[Obj]) -> float | None:
        minimum_s = at(replicaset, "spec.minReadySeconds", 0)
        now = self._registry.clock.wall_s()
        ready = [p for p in pods if is_condition_true(p, "Ready")]
        waits = [_ready_at(p) + minimum_s - now for p in ready] if minimum_s else []
        available = len(ready) - sum(wait > 0 for wait in waits)
        hash_ = labels_of(at(replicaset, "spec.template"))
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(hash_.items() <= labels_of(p).items() for p in pods),
            "readyReplicas": len(ready),
            "availableReplicas": available,
            "observedGeneration": meta(replicaset).get("generation", 1),
        }

        def change(obj: Obj) -> None:
            kept = {k: v for k, v in (obj.get("status") or {}).items() if k not in status}
            obj["status"] = {**kept, **{k: v for k, v in status.items() if v or k == "replicas"}}

        self._registry.mutate(
            kinds.REPLICASET, namespace_of(replicaset), name_of(replicaset), change
        )
        return min((wait for wait in waits if wait > 0), default=None)


def _ready_at(pod: Obj) -> float:
    found = condition(pod, "Ready") or {}
    return parse_timestamp(found["lastTransitionTime"]) if found else 0.0


def _least_worth(pod: Obj) -> tuple[object, ...]:
    """Sort key: pods to give up first come first."""
    cost = int(annotations_of(pod).get("controller.kubernetes.io/pod-deletion-cost", 0))
    return (
        bool(at(pod, "spec.nodeName")),
        at(pod, "status.phase") == "Running",
        is_condition_true(pod, "Ready"),
        cost,
        -parse_timestamp(meta(pod)["creationTimestamp"]),
        name_of(pod),
    )

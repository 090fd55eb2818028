"""Nodes: what they look like, which pods they get, and what happens when one is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.lab.kube import kinds
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import (
    Obj,
    at,
    clone,
    condition,
    is_condition_true,
    is_terminating,
    labels_of,
    name_of,
    namespace_of,
    set_condition,
)
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.replicasets import is_active
from harness.lab.kube.store import DELETED, Change

KUBERNETES_VERSION = "v1.33.0"
UNREACHABLE = "node.kubernetes.io/unreachable"
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True)
class NodeSpec:
    """A node as the cluster's owner declares it: its name and its EC2 instance."""

    name: str
    instance_id: str


@dataclass(frozen=True)
class Place:
    """Where a cluster's nodes are."""

    zone: str
    region: str


def node_object(spec: NodeSpec, place: Place, address: str, now: str) -> Obj:
    """The Node object a healthy node registers with."""
    capacity = {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    node: Obj = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": node_labels(spec, place)},
        "spec": {"providerID": f"aws:///{place.zone}/{spec.instance_id}"},
        "status": {
            "capacity": capacity,
            "allocatable": dict(capacity),
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": spec.name},
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": spec.instance_id,
                "containerRuntimeVersion": "process://1",
                "kernelVersion": "lab",
                "kubeProxyVersion": KUBERNETES_VERSION,
                "kubeletVersion": KUBERNETES_VERSION,
                "machineID": spec.instance_id,
                "operatingSystem": "linux",
                "osImage": "lab",
                "systemUUID": spec.instance_id,
            },
        },
    }
    for pressure in ("MemoryPressure", "DiskPressure", "PIDPressure"):
        set_condition(node, pressure, "False", now, reason=f"KubeletHasNo{pressure}")
    set_ready(node, True, "", now)
    for condition_ in node["status"]["conditions"]:
        condition_["lastHeartbeatTime"] = now
    return node


def node_labels(spec: NodeSpec, place: Place) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "lab",
        "topology.kubernetes.io/zone": place.zone,
        "topology.kubernetes.io/region": place.region,
    }


def set_ready(node: Obj, ready: bool, reason: str, now: str) -> None:
    """Set the Ready condition and the taints that go with it, in place."""
    spec = node.setdefault("spec", {})
    taints = [t for t in spec.get("taints") or () if t.get("key") != UNREACHABLE]
    if ready:
        message = "kubelet is posting ready status"
        set_condition(node, "Ready", "True", now, reason=reason or "KubeletReady", message=message)
    else:
        message = "Kubelet stopped posting node status."
        reason = reason or "NodeStatusUnknown"
        set_condition(node, "Ready", "Unknown", now, reason=reason, message=message)
        for effect in ("NoSchedule", "NoExecute"):
            taints.append({"key": UNREACHABLE, "effect": effect, "timeAdded": now})
    if taints:
        spec["taints"] = taints
    else:
        spec.pop("taints", None)


def tolerates(pod: Obj, taint: Mapping[str, str]) -> bool:
    for toleration in at(pod, "spec.tolerations", ()):
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        if toleration.get("operator") == "Exists" and not toleration.get("key"):
            return True
        if toleration.get("key") != taint.get("key"):
            continue
        if toleration.get("operator") == "Exists":
            return True
        if (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def refusal(node: Obj, pod: Obj) -> str:
    """Why ``pod`` cannot be placed on ``node``; empty if it can."""
    unschedulable = {"key": _UNSCHEDULABLE, "effect": "NoSchedule"}
    if at(node, "spec.unschedulable") and not tolerates(pod, unschedulable):
        return "node(s) were unschedulable"
    if not is_condition_true(node, "Ready"):
        return "node(s) were not ready"
    for taint in at(node, "spec.taints", ()):
        if taint.get("effect") != "PreferNoSchedule" and not tolerates(pod, taint):
            return "node(s) had untolerated taint"
    wanted = at(pod, "spec.nodeSelector", {})
    if not wanted.items() <= labels_of(node).items():
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


class Scheduler:
    """Gives each new pod to the node with the fewest pods of the same app, then of all."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.POD.storage:
            if self._is_waiting(change.obj) and change.type != DELETED:
                yield namespace_of(change.obj), name_of(change.obj)
        elif change.resource == kinds.NODE.storage:
            for pod in self._registry.store.list(kinds.POD.storage):
                if self._is_waiting(pod):
                    yield namespace_of(pod), name_of(pod)

    @staticmethod
    def _is_waiting(pod: Obj) -> bool:
        return not at(pod, "spec.nodeName") and is_active(pod)

    def reconcile(self, key: Key) -> float | None:
        pod = self._registry.store.get(kinds.POD.storage, *key)
        if pod is None or not self._is_waiting(pod):
            return None
        nodes = self._registry.store.list(kinds.NODE.storage)
        fit = [node for node in nodes if not refusal(node, pod)]
        if fit:
            self._bind(pod, min(fit, key=lambda node: self._load(node, pod)))
        else:
            self._tell_unschedulable(pod, nodes)
        return None

    def _load(self, node: Obj, pod: Obj) -> tuple[int, int, str]:
        pods = [
            p
            for p in self._registry.store.list(kinds.POD.storage)
            if at(p, "spec.nodeName") == name_of(node) and is_active(p)
        ]
        app = labels_of(pod).get("app")
        same = sum(1 for p in pods if labels_of(p).get("app") == app)
        return same, len(pods), name_of(node)

    def _bind(self, pod: Obj, node: Obj) -> None:
        def change(obj: Obj) -> None:
            obj["spec"]["nodeName"] = name_of(node)
            set_condition(obj, "PodScheduled", "True", self._registry.now())

        self._registry.mutate(kinds.POD, namespace_of(pod), name_of(pod), change)
        where = f"{namespace_of(pod)}/{name_of(pod)}"
        self._registry.events.record(
            pod,
            "Scheduled",
            f"Successfully assigned {where} to {name_of(node)}",
            source="default-scheduler",
        )

    def _tell_unschedulable(self, pod: Obj, nodes: list[Obj]) -> None:
        reasons: dict[str, int] = {}
        for node in nodes:
            why = refusal(node, pod)
            reasons[why] = reasons.get(why, 0) + 1
        text = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items()))
        message = f"0/{len(nodes)} nodes are available: {text or 'no nodes'}."
        if (condition(pod, "PodScheduled") or {}).get("message") == message:
            return

        def change(obj: Obj) -> None:
            now = self._registry.now()
            set_condition(
                obj, "PodScheduled", "False", now, reason="Unschedulable", message=message
            )

        self._registry.mutate(kinds.POD, namespace_of(pod), name_of(pod), change)
        self._registry.events.record(
            pod, "FailedScheduling", message, source="default-scheduler", warning=True
        )


class NodeController:
    """Marks the pods of a lost node not ready, later evicts them; cleans up after deleted nodes.

    ``eviction_s`` is how long pods stay on an unreachable node (Kubernetes: 300 s).
    """

    def __init__(
        self,
        registry: Registry,
        known: Mapping[str, Obj],
        eviction_s: float,
    ) -> None:
        self._registry = registry
        self._known = known
        self._eviction_s = eviction_s
        self._lost_at: dict[str, float] = {}

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.NODE.storage:
            yield "", name_of(change.obj)

    def reconcile(self, key: Key) -> float | None:
        name = key[1]
        node = self._registry.store.get(kinds.NODE.storage, "", name)
        pods = [
            p
            for p in self._registry.store.list(kinds.POD.storage)
            if at(p, "spec.nodeName") == name
        ]
        if node is None:
            self._forget(name, pods)
            return None
        if not at(node, "status.nodeInfo") and name in self._known:
            self._complete(name)
            return None
        if condition(node, "Ready") is None or is_condition_true(node, "Ready"):
            self._lost_at.pop(name, None)
            return None
        return self._lost(name, pods)

    def _forget(self, name: str, pods: list[Obj]) -> None:
        """The node object is gone: so are its pods."""
        self._lost_at.pop(name, None)
        for pod in pods:
            self._registry.delete(
                kinds.POD, namespace_of(pod), name_of(pod), DeleteOptions(grace_s=0)
            )

    def _complete(self, name: str) -> None:
        """A known node that was created again: its kubelet reports as it did before."""
        known = self._known[name]

        def change(obj: Obj) -> None:
            obj["status"] = clone(known["status"])
            obj["metadata"]["labels"] = {**known["metadata"]["labels"], **labels_of(obj)}
            obj.setdefault("spec", {}).setdefault("providerID", known["spec"]["providerID"])

        self._registry.mutate(kinds.NODE, "", name, change)

    def _lost(self, name: str, pods: list[Obj]) -> float | None:
        now_s = self._registry.clock.monotonic_s()
        left_s = self._lost_at.setdefault(name, now_s) + self._eviction_s - now_s
        for pod in pods:
            key = namespace_of(pod), name_of(pod)
            self._registry.mutate(kinds.POD, *key, self._not_ready)
            if left_s <= 0 and not is_terminating(pod):
                message = f"Marking for deletion Pod {'/'.join(key)}"
                self._registry.events.record(
                    pod, "TaintManagerEviction", message, source="taint-eviction-controller"
                )
                self._registry.delete(kinds.POD, *key, DeleteOptions())
        return left_s if left_s > 0 else None

    def _not_ready(self, pod: Obj) -> None:
        if is_condition_true(pod, "Ready"):
            set_condition(pod, "Ready", "False", self._registry.now(), reason="NodeNotReady")

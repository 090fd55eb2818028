"""Columns of ``kubectl get``: the server, not the client, says what to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from harness.lab.kube.objects import (
    Obj,
    at,
    is_condition_true,
    is_terminating,
    labels_of,
    meta,
    name_of,
    parse_timestamp,
)
from harness.lab.kube.selectors import selector_text


@dataclass(frozen=True)
class Column:
    """``cell(object, now)`` gives the value; ``priority`` 1 is shown with ``-o wide`` only."""

    name: str
    cell: Callable[[Obj, float], Any]
    type: str = "string"
    priority: int = 0

    def definition(self) -> Obj:
        format_ = "name" if self.name == "Name" else ""
        return {
            "name": self.name,
            "type": self.type,
            "format": format_,
            "description": "",
            "priority": self.priority,
        }


def duration(seconds: float) -> str:
    """``45s``, ``3m12s``, ``5h``, ``2d3h``: as kubectl tells ages."""
    s = max(0, int(seconds))
    if s < 120:
        return f"{s}s"
    minutes, hours, days = s // 60, s // 3600, s // 86400
    if minutes < 10:
        return f"{minutes}m{s % 60}s" if s % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def age(obj: Obj, now: float) -> str:
    created = meta(obj).get("creationTimestamp")
    return duration(now - parse_timestamp(created)) if created else "<unknown>"


def _path(path: str, default: Any = "<none>") -> Callable[[Obj, float], Any]:
    return lambda obj, now: at(obj, path, default)


def _count(path: str) -> Callable[[Obj, float], Any]:
    return lambda obj, now: len(at(obj, path, ()))


NAME = Column("Name", lambda obj, now: name_of(obj))
AGE = Column("Age", age)
PLAIN = (NAME, AGE)


def _ready_containers(obj: Obj, now: float) -> str:
    ready = sum(bool(s.get("ready")) for s in at(obj, "status.containerStatuses", ()))
    return f"{ready}/{len(at(obj, 'spec.containers', ()))}"


def pod_state(obj: Obj, now: float = 0.0) -> str:
    """The STATUS column: Running, Terminating, ContainerCreating, CrashLoopBackOff …"""
    if is_terminating(obj):
        return "Terminating"
    text = at(obj, "status.reason") or at(obj, "status.phase", "Unknown")
    for status in at(obj, "status.containerStatuses", ()):
        state = status.get("state") or {}
        if reason := at(state, "waiting.reason"):
            text = reason
        elif "terminated" in state:
            text = at(state, "terminated.reason") or "Error"
    return text


def _restarts(obj: Obj, now: float) -> str:
    statuses = at(obj, "status.containerStatuses", ())
    total = sum(s.get("restartCount", 0) for s in statuses)
    ended = [at(s, "lastState.terminated.finishedAt") for s in statuses]
    last = max((parse_timestamp(t) for t in ended if t), default=None)
    return f"{total} ({duration(now - last)} ago)" if total and last else str(total)


POD = (
    NAME,
    Column("Ready", _ready_containers),
    Column("Status", pod_state),
    Column("Restarts", _restarts),
    AGE,
    Column("IP", _path("status.podIP"), priority=1),
    Column("Node", _path("spec.nodeName"), priority=1),
    Column("Nominated Node", _path("status.nominatedNodeName"), priority=1),
    Column("Readiness Gates", lambda obj, now: "<none>", priority=1),
)


def _containers(field: str) -> Callable[[Obj, float], str]:
    def cell(obj: Obj, now: float) -> str:
        containers: Iterable[Obj] = at(obj, "spec.template.spec.containers", ())
        return ",".join(str(c.get(field, "")) for c in containers)

    return cell


def _selector(obj: Obj, now: float) -> str:
    return selector_text(at(obj, "spec.selector"))


_TEMPLATE = (
    Column("Containers", _containers("name"), priority=1),
    Column("Images", _containers("image"), priority=1),
    Column("Selector", _selector, priority=1),
)
DEPLOYMENT = (
    NAME,
    Column(
        "Ready",
        lambda o, n: f"{at(o, 'status.readyReplicas', 0)}/{at(o, 'spec.replicas', 0)}",
    ),
    Column("Up-to-date", _path("status.updatedReplicas", 0), "integer"),
    Column("Available", _path("status.availableReplicas", 0), "integer"),
    AGE,
    *_TEMPLATE,
)
REPLICASET = (
    NAME,
    Column("Desired", _path("spec.replicas", 0), "integer"),
    Column("Current", _path("status.replicas", 0), "integer"),
    Column("Ready", _path("status.readyReplicas", 0), "integer"),
    AGE,
    *_TEMPLATE,
)
WORKLOAD = (NAME, AGE, *_TEMPLATE)
ROLLOUT = (
    NAME,
    Column("Desired", _path("spec.replicas", 0), "integer"),
    Column("Current", _path("status.replicas", 0), "integer"),
    Column("Up-to-date", _path("status.updatedReplicas", 0), "integer"),
    Column("Available", _path("status.availableReplicas", 0), "integer"),
    AGE,
)
ANALYSIS_RUN = (NAME, Column("Status", _path("status.phase", "")), AGE)


def _node_status(obj: Obj, now: float) -> str:
    text = "Ready" if is_condition_true(obj, "Ready") else "NotReady"
    return f"{text},SchedulingDisabled" if at(obj, "spec.unschedulable") else text


def _node_roles(obj: Obj, now: float) -> str:
    prefix = "node-role.kubernetes.io/"
    roles = sorted(k.removeprefix(prefix) for k in labels_of(obj) if k.startswith(prefix))
    return ",".join(roles) or "<none>"


def _node_address(kind: str) -> Callable[[Obj, float], str]:
    def cell(obj: Obj, now: float) -> str:
        addresses: Iterable[Obj] = at(obj, "status.addresses", ())
        return next((a["address"] for a in addresses if a.get("type") == kind), "<none>")

    return cell


NODE = (
    NAME,
    Column("Status", _node_status),
    Column("Roles", _node_roles),
    AGE,
    Column("Version", _path("status.nodeInfo.kubeletVersion")),
    Column("Internal-IP", _node_address("InternalIP"), priority=1),
    Column("External-IP", _node_address("ExternalIP"), priority=1),
    Column("OS-Image", _path("status.nodeInfo.osImage"), priority=1),
    Column("Kernel-Version", _path("status.nodeInfo.kernelVersion"), priority=1),
    Column("Container-Runtime", _path("status.nodeInfo.containerRuntimeVersion"), priority=1),
)


def _ports(obj: Obj, now: float) -> str:
    ports: Iterable[Obj] = at(obj, "spec.ports", ())
    return ",".join(f"{p.get('port')}/{p.get('protocol', 'TCP')}" for p in ports) or "<none>"


def _match_labels(path: str) -> Callable[[Obj, float], str]:
    def cell(obj: Obj, now: float) -> str:
        pairs = at(obj, path, {})
        return ",".join(f"{k}={v}" for k, v in sorted(pairs.items())) or "<none>"

    return cell


SERVICE = (
    NAME,
    Column("Type", _path("spec.type")),
    Column("Cluster-IP", _path("spec.clusterIP")),
    Column("External-IP", _path("spec.externalName")),
    Column("Port(s)", _ports),
    AGE,
    Column("Selector", _match_labels("spec.selector"), priority=1),
)


def _endpoint_list(obj: Obj, now: float) -> str:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset.get("ports") or ()
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return ",".join(found[:3]) + more if found else "<none>"


def _slice_endpoints(obj: Obj, now: float) -> str:
    found = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return ",".join(found) or "<unset>"


def _slice_ports(obj: Obj, now: float) -> str:
    return ",".join(str(p.get("port")) for p in obj.get("ports") or ()) or "<unset>"


ENDPOINTS = (NAME, Column("Endpoints", _endpoint_list), AGE)
ENDPOINT_SLICE = (
    NAME,
    Column("AddressType", _path("addressType")),
    Column("Ports", _slice_ports),
    Column("Endpoints", _slice_endpoints),
    AGE,
)
NAMESPACE = (NAME, Column("Status", _path("status.phase")), AGE)
CONFIG_MAP = (NAME, Column("Data", _count("data"), "integer"), AGE)
SECRET = (
    NAME,
    Column("Type", _path("type")),
    Column("Data", _count("data"), "integer"),
    AGE,
)
SERVICE_ACCOUNT = (NAME, Column("Secrets", _count("secrets"), "integer"), AGE)


def _seen(obj: Obj, now: float) -> str:
    text = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or obj.get("eventTime")
    return duration(now - parse_timestamp(text)) if text else "<unknown>"


def _event_object(obj: Obj, now: float) -> str:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


EVENT = (
    Column("Last Seen", _seen),
    Column("Type", _path("type")),
    Column("Reason", _path("reason")),
    Column("Object", _event_object),
    Column("Message", lambda o, n: str(o.get("message") or o.get("note") or "").strip()),
    Column("Name", lambda o, n: name_of(o), priority=1),
)
DISRUPTION_BUDGET = (
    NAME,
    Column("Min Available", _path("spec.minAvailable", "N/A")),
    Column("Max Unavailable", _path("spec.maxUnavailable", "N/A")),
    Column("Allowed Disruptions", _path("status.disruptionsAllowed", 0), "integer"),
    AGE,
)


def _scale_target(obj: Obj, now: float) -> str:
    return f"{at(obj, 'spec.scaleTargetRef.kind')}/{at(obj, 'spec.scaleTargetRef.name')}"


def _scale_metrics(obj: Obj, now: float) -> str:
    """``12500m/40`` per metric: what it is, and what it shall be."""
    current = at(obj, "status.currentMetrics", ())
    shown = []
    for index, metric in enumerate(at(obj, "spec.metrics", ())):
        seen = at(current[index], "pods.current.averageValue") if index < len(current) else None
        shown.append(f"{seen or '<unknown>'}/{at(metric, 'pods.target.averageValue')}")
    return ", ".join(shown) or "<unknown>"


AUTOSCALER = (
    NAME,
    Column("Reference", _scale_target),
    Column("Targets", _scale_metrics),
    Column("MinPods", _path("spec.minReplicas", 1)),
    Column("MaxPods", _path("spec.maxReplicas")),
    Column("Replicas", _path("status.currentReplicas", 0), "integer"),
    AGE,
)
NETWORK_POLICY = (NAME, Column("Pod-Selector", _match_labels("spec.podSelector.matchLabels")), AGE)
LEASE = (NAME, Column("Holder", _path("spec.holderIdentity")), AGE)


def _partial(obj: Obj) -> Obj:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj.get("metadata", {}),
    }


def table(
    columns: tuple[Column, ...],
    objects: Iterable[Obj],
    list_meta: Obj,
    now: float,
    include: str = "Metadata",
) -> Obj:
    """A ``meta.k8s.io/v1`` Table; ``include`` is None, Metadata or Object."""
    carry = {"None": lambda o: None, "Object": lambda o: o}.get(include, _partial)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": [column.definition() for column in columns],
        "rows": [
            {"cells": [column.cell(obj, now) for column in columns], "object": carry(obj)}
            for obj in objects
        ],
    }

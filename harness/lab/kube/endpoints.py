"""Endpoints controller: which ready pods stand behind each service."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.lab.kube import kinds
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import (
    Obj,
    at,
    is_condition_true,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.replicasets import is_active
from harness.lab.kube.store import Change

Addresses = list[tuple[str, int]]
Callback = Callable[[str, str, Addresses], None]


def _selects(service: Obj, pod: Obj) -> bool:
    wanted = at(service, "spec.selector", {})
    return bool(wanted) and wanted.items() <= labels_of(pod).items()


def target_port(port: Obj, pod: Obj) -> int | None:
    """The pod's port behind a service port; None if the pod has no port of that name."""
    target = port.get("targetPort", port.get("port"))
    if isinstance(target, int) or str(target).isdigit():
        return int(target)
    for container in at(pod, "spec.containers", ()):
        for declared in container.get("ports") or ():
            if declared.get("name") == target:
                return int(declared["containerPort"])
    return None


def ready_addresses(endpoints: Obj | None) -> Addresses:
    """(address, first port) of each ready address of an Endpoints object."""
    return [
        (address["ip"], ports[0]["port"])
        for subset in (endpoints or {}).get("subsets") or ()
        if (ports := subset.get("ports"))
        for address in subset.get("addresses") or ()
    ]


class EndpointsController:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._callbacks: list[Callback] = []
        self._told: dict[Key, Addresses] = {}

    def on_change(self, callback: Callback) -> None:
        """Call with (namespace, service, ready addresses) on each change, and for what is now."""
        self._callbacks.append(callback)
        for (namespace, service), addresses in self._told.items():
            callback(namespace, service, addresses)

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.SERVICE.storage:
            yield namespace_of(change.obj), name_of(change.obj)
        elif change.resource == kinds.POD.storage:
            pods = [p for p in (change.obj, change.old) if p]
            for service in self._registry.store.list(
                kinds.SERVICE.storage, namespace_of(change.obj)
            ):
                if any(_selects(service, pod) for pod in pods):
                    yield namespace_of(service), name_of(service)

    def reconcile(self, key: Key) -> float | None:
        service = self._registry.store.get(kinds.SERVICE.storage, *key)
        if service is None:
            for kind in (kinds.ENDPOINTS, kinds.ENDPOINT_SLICE):
                if self._registry.store.get(kind.storage, *key):
                    self._registry.delete(kind, *key, DeleteOptions())
            self._tell(key, [])
            return None
        if not at(service, "spec.selector"):
            return None
        pods = [
            p
            for p in self._registry.store.list(kinds.POD.storage, key[0])
            if _selects(service, p) and at(p, "status.podIP") and is_active(p)
        ]
        subsets = self._subsets(service, pods)
        self._write(kinds.ENDPOINTS, service, {"subsets": subsets})
        self._write(kinds.ENDPOINT_SLICE, service, self._slice(service, pods))
        self._tell(key, ready_addresses({"subsets": subsets}))
        return None

    @staticmethod
    def _is_ready(service: Obj, pod: Obj) -> bool:
        return is_condition_true(pod, "Ready") or bool(at(service, "spec.publishNotReadyAddresses"))

    def _subsets(self, service: Obj, pods: list[Obj]) -> list[Obj]:
        """One subset per distinct set of ports."""
        by_ports: dict[tuple[tuple[str, int, str], ...], Obj] = {}
        for pod in pods:
            ports = tuple(
                (port.get("name", ""), number, port.get("protocol", "TCP"))
                for port in at(service, "spec.ports", ())
                if (number := target_port(port, pod)) is not None
            )
            subset = by_ports.setdefault(ports, {"addresses": [], "notReadyAddresses": []})
            ready = self._is_ready(service, pod)
            subset["addresses" if ready else "notReadyAddresses"].append(_address(pod))
        found = []
        for ports, subset in by_ports.items():
            filled = {k: v for k, v in subset.items() if v}
            if ports:
                filled["ports"] = [
                    {**({"name": name} if name else {}), "port": number, "protocol": protocol}
                    for name, number, protocol in ports
                ]
            found.append(filled)
        return found

    def _slice(self, service: Obj, pods: list[Obj]) -> Obj:
        ports = at(service, "spec.ports", ())
        example = pods[0] if pods else {}
        return {
            "addressType": "IPv4",
            "endpoints": [
                {
                    "addresses": [at(pod, "status.podIP")],
                    "conditions": {
                        "ready": self._is_ready(service, pod),
                        "serving": is_condition_true(pod, "Ready"),
                        "terminating": False,
                    },
                    "nodeName": at(pod, "spec.nodeName"),
                    "targetRef": _address(pod)["targetRef"],
                    **({"zone": zone} if (zone := self._zone(pod)) else {}),
                }
                for pod in pods
            ],
            "ports": [
                {
                    "name": port.get("name", ""),
                    "port": target_port(port, example),
                    "protocol": port.get("protocol", "TCP"),
                }
                for port in ports
            ],
        }

    def _zone(self, pod: Obj) -> str:
        node = self._registry.store.get(kinds.NODE.storage, "", at(pod, "spec.nodeName", ""))
        return labels_of(node).get("topology.kubernetes.io/zone", "") if node else ""

    def _write(self, kind: kinds.Kind, service: Obj, content: Obj) -> None:
        key = namespace_of(service), name_of(service)
        if self._registry.store.get(kind.storage, *key) is not None:
            self._registry.mutate(kind, *key, lambda obj: obj.update(content))
            return
        labels = {**labels_of(service), "kubernetes.io/service-name": name_of(service)}
        metadata = {
            "name": name_of(service),
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        }
        self._registry.create(kind, key[0], {"metadata": metadata, **content})

    def _tell(self, key: Key, addresses: Addresses) -> None:
        if self._told.get(key, []) == addresses:
            return
        self._told[key] = addresses
        for callback in tuple(self._callbacks):
            callback(*key, list(addresses))


def _address(pod: Obj) -> Obj:
    return {
        "ip": at(pod, "status.podIP"),
        "nodeName": at(pod, "spec.nodeName"),
        "targetRef": {
            "kind": "Pod",
            "name": name_of(pod),
            "namespace": namespace_of(pod),
            "uid": uid_of(pod),
        },
    }

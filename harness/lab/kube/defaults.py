"""What the API server fills in, and what it refuses, per kind.

A *defaulter* changes a new object in place; a *validator* returns the causes of a
refusal as (field path, message), and is given the stored object on an update.
Only what the controllers here and the usual clients rely on is covered.
"""

from __future__ import annotations

import base64
import re

from harness.lab.kube.objects import Obj, at, labels_of, quantity
from harness.lab.kube.selectors import selector_object

Causes = list[tuple[str, str]]

_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


def check_name(name: str) -> Causes:
    if name and len(name) <= 253 and _DNS_NAME.match(name):
        return []
    return [("metadata.name", f"Invalid value: {name!r}: must be a lowercase DNS subdomain")]


def pod_spec(spec: Obj) -> None:
    """Defaults of a pod template's spec, in place."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in spec.get("containers") or ():
        tag = str(container.get("image", "")).rpartition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag == "latest" else "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            if container.get(probe):
                _probe(container[probe])


def _probe(probe: Obj) -> None:
    for key, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe.setdefault(key, value)
    if "httpGet" in probe:
        probe["httpGet"].setdefault("path", "/")
        probe["httpGet"].setdefault("scheme", "HTTP")


def pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("serviceAccountName", "default")
    # Clients iterate over the volumes without looking: a list must be there.
    spec.setdefault("volumes", [])
    spec.setdefault("tolerations", [])
    obj.setdefault("status", {}).setdefault("phase", "Pending")
    obj["status"].setdefault("qosClass", "BestEffort")


def deployment(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
        strategy["rollingUpdate"] = rolling
    _template(spec)


def replicaset(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def workload(obj: Obj) -> None:
    """StatefulSet, DaemonSet and Job are stored but not acted upon."""
    _template(obj.setdefault("spec", {}))
    obj.setdefault("status", {})


def _template(spec: Obj) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] != "ExternalName":
        # Addresses of services are not simulated: clients use the pods' addresses.
        spec.setdefault("clusterIP", "None")
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    obj.setdefault("status", {"loadBalancer": {}})


def namespace(obj: Obj) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"][
        "name"
    ]
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {}).setdefault("phase", "Active")


def secret(obj: Obj) -> None:
    obj.setdefault("type", "Opaque")
    plain = obj.pop("stringData", None) or {}
    if plain:
        data = obj.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(str(value).encode()).decode()


def hpa(obj: Obj) -> None:
    obj.setdefault("spec", {}).setdefault("minReplicas", 1)
    obj.setdefault("status", {"currentReplicas": 0, "desiredReplicas": 0})


def disruption_budget(obj: Obj) -> None:
    obj.setdefault("status", {}).setdefault("disruptionsAllowed", 0)


def network_policy(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("policyTypes", ["Ingress"])


def _check_pod_spec(spec: Obj, path: str) -> Causes:
    containers = spec.get("containers") or []
    causes: Causes = [] if containers else [(f"{path}.containers", "Required value")]
    for index, container in enumerate(containers):
        here = f"{path}.containers[{index}]"
        if not _DNS_LABEL.match(str(container.get("name", ""))):
            causes.append((f"{here}.name", "Required value: must be a DNS label"))
        if not container.get("image"):
            causes.append((f"{here}.image", "Required value"))
    return causes


def check_pod(obj: Obj, old: Obj | None) -> Causes:
    causes = _check_pod_spec(obj["spec"], "spec")
    if old and at(old, "spec.nodeName") and at(obj, "spec.nodeName") != at(old, "spec.nodeName"):
        causes.append(("spec.nodeName", "Forbidden: pod updates may not change it"))
    return causes


def check_workload(obj: Obj, old: Obj | None) -> Causes:
    spec = obj["spec"]
    causes = _check_pod_spec(spec["template"]["spec"], "spec.template.spec")
    selector = spec.get("selector")
    if not selector:
        causes.append(("spec.selector", "Required value"))
    elif not selector_object(selector)(labels_of(spec["template"])):
        message = "Invalid value: `selector` does not match template `labels`"
        causes.append(("spec.template.metadata.labels", message))
    replicas = spec.get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        causes.append(("spec.replicas", message))
    if old and at(old, "spec.selector") != selector:
        causes.append(("spec.selector", "Invalid value: field is immutable"))
    return causes


def check_service(obj: Obj, old: Obj | None) -> Causes:
    spec = obj["spec"]
    if spec["type"] == "ExternalName" or spec.get("ports") or spec.get("clusterIP") == "None":
        return []
    return [("spec.ports", "Required value")]


def check_disruption_budget(obj: Obj, old: Obj | None) -> Causes:
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        return [("spec", "Invalid value: minAvailable and maxUnavailable cannot be both set")]
    return []


def check_hpa(obj: Obj, old: Obj | None) -> Causes:
    spec = obj["spec"]
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas")
    if not isinstance(most, int) or most < 1:
        return [("spec.maxReplicas", "Required value: must be greater than 0")]
    if not isinstance(least, int) or not 1 <= least <= most:
        message = f"Invalid value: {least}: must be at least 1 and at most maxReplicas"
        return [("spec.minReplicas", message)]
    if not at(spec, "scaleTargetRef.name"):
        return [("spec.scaleTargetRef.name", "Required value")]
    causes: Causes = []
    for index, metric in enumerate(spec.get("metrics") or ()):
        given = at(metric, "pods.target.averageValue")
        path = f"spec.metrics[{index}].pods.target.averageValue"
        if given is None:
            continue
        try:
            if quantity(given) <= 0:
                causes.append((path, f"Invalid value: {given!r}: must be positive"))
        except ValueError as error:
            causes.append((path, f"Invalid value: {error}"))
    return causes

"""What the server tells about itself: versions, groups and resources."""

from __future__ import annotations

from collections.abc import Iterable

from harness.lab.kube.kinds import Kind, KindTable
from harness.lab.kube.nodes import KUBERNETES_VERSION
from harness.lab.kube.objects import Obj

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

#: Subresources of pods: (name, kind, group, version, verbs).
_POD_SUBRESOURCES = (
    ("eviction", "Eviction", "policy", "v1", ["create"]),
    ("exec", "PodExecOptions", "", "v1", ["create", "get"]),
    ("log", "Pod", "", "v1", ["get"]),
)


def version() -> Obj:
    major, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": KUBERNETES_VERSION,
        "gitCommit": "lab",
        "gitTreeState": "clean",
        "buildDate": "2025-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def api_versions(address: str) -> Obj:
    """The answer of ``/api``."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group(name: str, versions: Iterable[str]) -> Obj:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": listed,
        "preferredVersion": listed[0],
    }


def group_list(table: KindTable) -> Obj:
    """The answer of ``/apis``."""
    groups = [group(name, versions) for name, versions in table.groups()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _subresources(kind: Kind) -> list[tuple[str, str, str, str, list[str]]]:
    change = ["get", "patch", "update"]
    found = []
    if kind.has_status:
        found.append(("status", kind.kind, kind.group, kind.version, change))
    if kind.has_scale:
        found.append(("scale", "Scale", "autoscaling", "v1", change))
    if kind.kind == "Pod" and not kind.group:
        found.extend(_POD_SUBRESOURCES)
    return found


def resource_list(table: KindTable, group_name: str, version_name: str) -> Obj | None:
    """The answer of ``/api/v1`` or ``/apis/<group>/<version>``; None if there is no such."""
    served = [k for k in table.kinds if (k.group, k.version) == (group_name, version_name)]
    if not served:
        return None
    resources: list[Obj] = []
    for kind in served:
        entry = {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": VERBS,
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        for name, sub_kind, sub_group, sub_version, verbs in _subresources(kind):
            resources.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "group": sub_group,
                    "version": sub_version,
                    "kind": sub_kind,
                    "verbs": verbs,
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served[0].api_version,
        "resources": resources,
    }


def aggregated(table: KindTable, *, core: bool) -> Obj:
    """All groups with their resources in one document (``/api`` or ``/apis``)."""
    groups = [("", ["v1"])] if core else table.groups()
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name, "creationTimestamp": None},
                "versions": [
                    {
                        "version": v,
                        "freshness": "Current",
                        "resources": [
                            _aggregated_resource(k)
                            for k in table.kinds
                            if (k.group, k.version) == (name, v)
                        ],
                    }
                    for v in versions
                ],
            }
            for name, versions in groups
        ],
    }


def _aggregated_resource(kind: Kind) -> Obj:
    return {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.kind.lower(),
        "verbs": VERBS,
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
        "subresources": [
            {
                "subresource": name,
                "responseKind": {"group": sub_group, "version": sub_version, "kind": sub_kind},
                "verbs": verbs,
            }
            for name, sub_kind, sub_group, sub_version, verbs in _subresources(kind)
        ],
    }

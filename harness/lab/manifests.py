"""The Kubernetes objects of the file service, per cluster, as ``kubectl apply`` would take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.lab.layout import (
    DB_PORT,
    DB_WRITER_HOST,
    DNS_PORT,
    NAMESPACE,
    POD_PORT,
    QUEUE_PORT,
    REDIS_PORT,
    SERVICES,
    STORE_PORT,
    Layout,
)

#: Pods per service in a cluster that carries traffic, and in the warm standby.
ACTIVE_REPLICAS: dict[str, int] = {
    "gateway": 2,
    "auth": 1,
    "permission": 1,
    "file": 2,
    "image": 1,
    "notification": 1,
}
STANDBY_REPLICAS: dict[str, int] = dict.fromkeys(SERVICES, 1)

#: Seeded defects that the services themselves carry out.
SERVICE_DEFECTS: tuple[str, ...] = ("lost-uploads", "errors-with-200")

#: Longer than a pod goes on answering after it was told to stop.
GRACE_S = 5

Manifest = dict[str, Any]


def manifests(
    layout: Layout,
    cluster: str,
    *,
    standby: bool,
    version: str,
    defects: Sequence[str] = (),
    replicas: Mapping[str, int] | None = None,
) -> list[Manifest]:
    """Namespace, then Deployment, Service and PodDisruptionBudget of each service.

    ``replicas`` overrides the number of pods by service name. ``version`` becomes the
    image tag, the ``version`` label and what the pods report.
    """
    counts = {**(STANDBY_REPLICAS if standby else ACTIVE_REPLICAS), **(replicas or {})}
    env = pod_env(layout, cluster, defects)
    objects: list[Manifest] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    ]
    for service in SERVICES:
        objects += [
            _deployment(service, counts[service], version, env),
            _service(service),
            _disruption_budget(service),
        ]
    return objects


def pod_env(layout: Layout, cluster: str, defects: Sequence[str] = ()) -> dict[str, str]:
    """Where the pods of ``cluster`` find everything that is not a service of their cluster."""
    zone = layout.cluster_zone(cluster)
    peers = [region for region in layout.regions if region.name != zone.region]
    return {
        "LAB_DNS": f"{layout.dns}:{DNS_PORT}",
        "LAB_DB_WRITER": DB_WRITER_HOST,
        "LAB_DB_READER": layout.db(zone.name),
        "LAB_DB_PORT": str(DB_PORT),
        "LAB_STORE": _store_url(layout, zone.region),
        "LAB_STORE_PEER": _store_url(layout, peers[0].name) if peers else "",
        "LAB_REDIS": f"{layout.redis(zone.name)}:{REDIS_PORT}",
        "LAB_QUEUE": f"nats://{layout.queue(zone.name)}:{QUEUE_PORT}",
        "LAB_DEFECTS": ",".join(defects),
    }


def _store_url(layout: Layout, region: str) -> str:
    return f"http://{layout.store(region)}:{STORE_PORT}/{layout.region(region).bucket}"


def _metadata(service: str, **labels: str) -> Manifest:
    return {"name": service, "namespace": NAMESPACE, "labels": {"app": service, **labels}}


def _deployment(service: str, count: int, version: str, env: Mapping[str, str]) -> Manifest:
    probe = {
        "httpGet": {"path": "/health", "port": POD_PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": 2,
    }
    container = {
        "name": service,
        "image": f"files/{service}:{version}",
        "ports": [{"name": "http", "containerPort": POD_PORT}],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "readinessProbe": probe,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(service, version=version),
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": {"app": service}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": {"app": service, "version": version}},
                "spec": {
                    "terminationGracePeriodSeconds": GRACE_S,
                    "containers": [container],
                },
            },
        },
    }


def _service(service: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service),
        "spec": {
            "clusterIP": "None",
            "selector": {"app": service},
            "ports": [{"name": "http", "port": POD_PORT, "targetPort": POD_PORT}],
        },
    }


def _disruption_budget(service: str) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(service),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": service}}},
    }

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

#: Services that are delivered by a Rollout: the one by canary, the other by blue/green.
CANARY, BLUE_GREEN = "gateway", "permission"
CANARY_SERVICE = f"{CANARY}-canary"
PREVIEW_SERVICE = f"{BLUE_GREEN}-preview"
ANALYSIS = f"{CANARY}-health"
_ROLLOUTS = "argoproj.io/v1alpha1"
#: The service that is scaled by its load: requests per second that a pod shall have, the metric
#: that tells, and the most pods there may be.
SCALED, SCALED_TO, REQUESTS_METRIC, SCALED_MOST = "image", 40, "http_requests_per_second", 4
#: Pods are taken away once the load has asked for fewer for so long, in seconds.
_SCALE_IN_AFTER_S = 6
#: Pods of a version nobody is sent to any more are kept for so long, in seconds.
_SCALE_DOWN_S = 5

#: What carries this label may be broken on purpose.
_MAY_BE_BROKEN = {"chaos": "allowed"}
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
    """Namespace, then Service, PodDisruptionBudget and Deployment or Rollout of each service.

    ``replicas`` overrides the number of pods by service name. ``version`` becomes the
    image tag, the ``version`` label and what the pods report.
    """
    counts = {**(STANDBY_REPLICAS if standby else ACTIVE_REPLICAS), **(replicas or {})}
    env = pod_env(layout, cluster, defects)
    objects: list[Manifest] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    ]
    for service in SERVICES:
        workload = _deployment(service, counts[service], version, env)
        objects += [_service(service), _disruption_budget(service)]
        if service == CANARY:
            objects += [_analysis(), _service(CANARY_SERVICE, service)]
            workload = _rollout(workload, {"canary": _canary()})
        elif service == BLUE_GREEN:
            objects += [_service(PREVIEW_SERVICE, service)]
            workload = _rollout(workload, {"blueGreen": _blue_green()})
        objects.append(workload)
        if service == SCALED:
            objects.append(_autoscaler(counts[service]))
    return objects


def requests_query(pods: Sequence[str]) -> str:
    """PromQL of :data:`REQUESTS_METRIC` by pod, as a rule of a metrics adapter has it."""
    of = f'pod=~"{"|".join(pods)}",op!~"health|metrics|other"'
    return f"sum by (pod) (rate(http_requests_total{{{of}}}[5s]))"


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
    return {
        "name": service,
        "namespace": NAMESPACE,
        "labels": {"app": service, **_MAY_BE_BROKEN, **labels},
    }


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
                "metadata": {"labels": {"app": service, **_MAY_BE_BROKEN, "version": version}},
                "spec": {
                    "terminationGracePeriodSeconds": GRACE_S,
                    "containers": [container],
                },
            },
        },
    }


def _rollout(deployment: Manifest, strategy: Manifest) -> Manifest:
    """The Rollout in place of a Deployment."""
    spec = {**deployment["spec"], "strategy": strategy}
    return {**deployment, "apiVersion": _ROLLOUTS, "kind": "Rollout", "spec": spec}


def _canary() -> Manifest:
    """A fifth of the users, then half of them, then all; given up when the analysis fails."""
    arg = {"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}
    return {
        "stableService": CANARY,
        "canaryService": CANARY_SERVICE,
        "trafficRouting": {"alb": {"ingress": CANARY, "servicePort": POD_PORT}},
        "scaleDownDelaySeconds": _SCALE_DOWN_S,
        "abortScaleDownDelaySeconds": _SCALE_DOWN_S,
        "analysis": {
            "templates": [{"templateName": ANALYSIS}],
            "startingStep": 1,
            "args": [arg],
        },
        "steps": [
            {"setWeight": 20},
            {"pause": {"duration": "15s"}},
            {"setWeight": 50},
            {"pause": {"duration": "10s"}},
        ],
    }


def _blue_green() -> Manifest:
    return {
        "activeService": BLUE_GREEN,
        "previewService": PREVIEW_SERVICE,
        "scaleDownDelaySeconds": _SCALE_DOWN_S,
        "abortScaleDownDelaySeconds": _SCALE_DOWN_S,
    }


def _analysis() -> Manifest:
    """What a new version must do well: every operation, fast, with the bytes that were stored.

    Each metric says what is good *and* what is bad, so that no data is neither.
    """
    of = 'service="gateway",pod=~"gateway-{{args.hash}}-.*",op=~"download|upload|image|list|delete"'
    by_op = f"sum by (op) (rate(http_requests_total{{{of}}}[10s]))"
    bad = f'sum by (op) (rate(http_requests_total{{{of},code=~"5.."}}[10s]))'
    fast = f'sum(rate(http_request_duration_seconds_bucket{{{of},le="0.5"}}[10s]))'
    timed = f"sum(rate(http_request_duration_seconds_count{{{of}}}[10s]))"
    wrong = 'sum(content_checks_total{pod=~"gateway-{{args.hash}}-.*",result="wrong"})'
    return {
        "apiVersion": _ROLLOUTS,
        "kind": "AnalysisTemplate",
        "metadata": _metadata(ANALYSIS),
        "spec": {
            "args": [{"name": "hash"}],
            "metrics": [
                # The worst operation: the mean of all hides one that never works.
                _metric("errors", f"max(({bad} or 0 * {by_op}) / ({by_op} > 0.2))", "<", 0.05),
                _metric("fast", f"{fast} / ({timed} > 0.5)", ">=", 0.9),
                {**_metric("wrong-bytes", wrong, "<", 1), "failureLimit": 0},
            ],
        },
    }


def _metric(name: str, query: str, good: str, bound: float) -> Manifest:
    bad = {"<": ">=", ">=": "<"}[good]
    return {
        "name": name,
        "initialDelay": "5s",
        "interval": "2s",
        "failureLimit": 1,
        "inconclusiveLimit": 5,
        "successCondition": f"len(result) > 0 && result[0] {good} {bound}",
        "failureCondition": f"len(result) > 0 && result[0] {bad} {bound}",
        "provider": {
            "prometheus": {"address": "http://prometheus:9090", "query": query},
        },
    }


def _service(service: str, app: str = "") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata(app or service), "name": service},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": app or service},
            "ports": [{"name": "http", "port": POD_PORT, "targetPort": POD_PORT}],
        },
    }


def _autoscaler(least: int) -> Manifest:
    """As many pods as the requests ask for, never fewer than there are without one."""
    metric = {
        "metric": {"name": REQUESTS_METRIC},
        "target": {"type": "AverageValue", "averageValue": str(SCALED_TO)},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(SCALED),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": SCALED},
            "minReplicas": least,
            "maxReplicas": max(SCALED_MOST, least),
            "metrics": [{"type": "Pods", "pods": metric}],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {
                    "stabilizationWindowSeconds": _SCALE_IN_AFTER_S,
                    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 5}],
                },
            },
        },
    }


def _disruption_budget(service: str) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(service),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": service}}},
    }

"""``nodes:<cluster>`` and ``pods:<cluster>/<app>`` as each cluster's API server sees them.

Lists, not watches: a watch on a server that is cut off is silent for minutes, while a
list that fails is an error at once. Answers are read as plain JSON, which costs a
fraction of the client's typed models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.target.connect import kubernetes
from harness.target.kube import get_json, node_counts, pods_by_app
from harness.target.model import Cluster, Target
from harness.watch.observer import Observer


class ClusterObserver(Observer):
    """Asks one cluster's API server."""

    timeout_s = 5.0

    def __init__(self, target: Target, cluster: Cluster, period_s: float) -> None:
        self.target = target
        self.cluster = cluster
        self.period_s = period_s
        self._api: Any = None

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        if self._api is None:
            self._api = kubernetes(self.target, self.cluster.name)
        return get_json(self._api, path, **query)

    def renew(self) -> ClusterObserver:
        return type(self)(self.target, self.cluster, self.period_s)

    def close(self) -> None:
        if self._api is not None:
            self._api.close()


class Nodes(ClusterObserver):
    """``nodes:<cluster>`` → ``{"ready", "total"}``."""

    def __init__(self, target: Target, cluster: Cluster, period_s: float) -> None:
        super().__init__(target, cluster, period_s)
        self.name = f"nodes-{cluster.name}"
        self.subjects = (f"nodes:{cluster.name}",)

    def poll(self) -> Mapping[str, Any]:
        # resourceVersion=0: the API server's cache will do, and spares etcd.
        ready, total = node_counts(self.get("/api/v1/nodes", resourceVersion="0")["items"])
        return {self.subjects[0]: {"ready": ready, "total": total}}


class Pods(ClusterObserver):
    """``pods:<cluster>/<app>`` → ``{"ready", "total", "uids"}``, without pods being deleted."""

    def __init__(self, target: Target, cluster: Cluster, period_s: float) -> None:
        super().__init__(target, cluster, period_s)
        self.name = f"pods-{cluster.name}"
        self._apps: set[str] = set()

    def poll(self) -> Mapping[str, Any]:
        path = f"/api/v1/namespaces/{self.target.namespace}/pods"
        found = pods_by_app(self.get(path, resourceVersion="0")["items"])
        self._apps |= found.keys()
        none = {"ready": 0, "total": 0, "uids": []}
        return {f"pods:{self.cluster.name}/{a}": found.get(a, none) for a in sorted(self._apps)}

    def renew(self) -> Pods:
        fresh = Pods(self.target, self.cluster, self.period_s)
        fresh._apps = set(self._apps)
        return fresh

"""``rollout:<cluster>/<name>`` and ``deployment:<cluster>/<name>``: how deliveries go.

Where Argo Rollouts is not installed there are no Rollouts, which is told once and not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.target import rollouts
from harness.target.model import Cluster, Target
from harness.watch.kubernetes import ClusterObserver


class Deliveries(ClusterObserver):
    """Every Rollout and Deployment of the target's namespace in one cluster."""

    def __init__(self, target: Target, cluster: Cluster, period_s: float) -> None:
        super().__init__(target, cluster, period_s)
        self.name = f"deliveries-{cluster.name}"
        self._served = True

    def poll(self) -> Mapping[str, Any]:
        namespace, at = self.target.namespace, self.cluster.name
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        found = {
            f"deployment:{at}/{item['metadata']['name']}": rollouts.deployment_seen(item)
            for item in self.get(path, resourceVersion="0")["items"]
        }
        items = self._rollouts()
        if items:
            path = f"/api/v1/namespaces/{namespace}/pods"
            query = {"resourceVersion": "0", "labelSelector": rollouts.HASH_LABEL}
            pods = self.get(path, **query)["items"]
            for item in items:
                subject = f"rollout:{at}/{item['metadata']['name']}"
                found[subject] = rollouts.rollout_seen(item, pods)
        return found

    def _rollouts(self) -> list[dict[str, Any]]:
        from kubernetes.client.exceptions import ApiException

        if not self._served:
            return []
        try:
            items = self.get(rollouts.path(self.target.namespace), resourceVersion="0")["items"]
        except ApiException as error:
            if error.status != 404:
                raise
            self._served = False
            return []
        return list(items)

    def renew(self) -> Deliveries:
        fresh = Deliveries(self.target, self.cluster, self.period_s)
        fresh._served = self._served
        return fresh

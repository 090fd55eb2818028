"""``hpa:<cluster>/<name>``: what each HorizontalPodAutoscaler wants, has and measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.target.autoscalers import autoscaler_seen, path
from harness.target.model import Cluster, Target
from harness.watch.kubernetes import ClusterObserver


class Autoscalers(ClusterObserver):
    """Every autoscaler of the target's namespace in one cluster."""

    def __init__(self, target: Target, cluster: Cluster, period_s: float) -> None:
        super().__init__(target, cluster, period_s)
        self.name = f"autoscalers-{cluster.name}"

    def poll(self) -> Mapping[str, Any]:
        at = self.cluster.name
        items = self.get(path(self.target.namespace), resourceVersion="0")["items"]
        return {f"hpa:{at}/{item['metadata']['name']}": autoscaler_seen(item) for item in items}
